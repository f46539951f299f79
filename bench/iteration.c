/* An iteration of the loop that finds nothing to do.
 * Libraries: evloop libuv libev libevent bare
 *
 * One descriptor is watched that never becomes ready, so that each iteration asks the kernel. */
#include "bench.h"

#include <sys/epoll.h>

enum { ITERATIONS = 2000000 };

static int quiet[2]; /* a pipe to which nobody writes */

#if defined(BENCH_EVLOOP)

static void on_ready(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)events;
    bench_check(status < 0, "staying quiet");
}

static void run(unsigned iterations) {
    evl_loop_t loop;
    evl_poll_t poll;
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    bench_check(evl_poll_init(&loop, &poll, quiet[0]) == 0, "evl_poll_init");
    bench_check(evl_poll_start(&poll, EVL_READABLE, on_ready) == 0, "evl_poll_start");
    evl_run(&loop, EVL_RUN_NOWAIT);
    uint64_t begin = bench_now_ns();
    for (unsigned i = 0; i < iterations; i++)
        evl_run(&loop, EVL_RUN_NOWAIT);
    bench_report("empty", "ns", (double)(bench_now_ns() - begin) / iterations);
    evl_close((evl_handle_t *)&poll, NULL);
    evl_run(&loop, EVL_RUN_DEFAULT);
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

static void on_ready(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)events;
    bench_check(status < 0, "staying quiet");
}

static void run(unsigned iterations) {
    uv_loop_t loop;
    uv_poll_t poll;
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    bench_check(uv_poll_init(&loop, &poll, quiet[0]) == 0, "uv_poll_init");
    bench_check(uv_poll_start(&poll, UV_READABLE, on_ready) == 0, "uv_poll_start");
    uv_run(&loop, UV_RUN_NOWAIT);
    uint64_t begin = bench_now_ns();
    for (unsigned i = 0; i < iterations; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    bench_report("empty", "ns", (double)(bench_now_ns() - begin) / iterations);
    uv_close((uv_handle_t *)&poll, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEV)

static void on_ready(struct ev_loop *loop, ev_io *io, int events) {
    (void)loop;
    (void)io;
    (void)events;
    bench_check(0, "staying quiet");
}

static void run(unsigned iterations) {
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    ev_io io;
    bench_check(loop != NULL, "ev_loop_new");
    ev_io_init(&io, on_ready, quiet[0], EV_READ);
    ev_io_start(loop, &io);
    ev_run(loop, EVRUN_NOWAIT);
    uint64_t begin = bench_now_ns();
    for (unsigned i = 0; i < iterations; i++)
        ev_run(loop, EVRUN_NOWAIT);
    bench_report("empty", "ns", (double)(bench_now_ns() - begin) / iterations);
    ev_io_stop(loop, &io);
    ev_loop_destroy(loop);
}

#elif defined(BENCH_LIBEVENT)

static void on_ready(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    (void)arg;
    bench_check(0, "staying quiet");
}

static void run(unsigned iterations) {
    struct event_base *base = event_base_new();
    struct event *event;
    bench_check(base != NULL, "event_base_new");
    event = event_new(base, quiet[0], EV_READ | EV_PERSIST, on_ready, NULL);
    bench_check(event != NULL && event_add(event, NULL) == 0, "event_add");
    event_base_loop(base, EVLOOP_NONBLOCK);
    uint64_t begin = bench_now_ns();
    for (unsigned i = 0; i < iterations; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    bench_report("empty", "ns", (double)(bench_now_ns() - begin) / iterations);
    event_free(event);
    event_base_free(base);
}

#else

static void run(unsigned iterations) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {0};
    event.events = EPOLLIN;
    bench_check(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, quiet[0], &event) == 0, "epoll_ctl");
    uint64_t begin = bench_now_ns();
    for (unsigned i = 0; i < iterations; i++)
        bench_check(epoll_wait(epoll, &event, 1, 0) == 0, "epoll_wait");
    bench_report("empty", "ns", (double)(bench_now_ns() - begin) / iterations);
    close(epoll);
}

#endif

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    bench_check(pipe(quiet) == 0, "pipe");
    if (bench_wants("empty"))
        run(bench_scaled(ITERATIONS));
    return 0;
}
