/* cc -O2 -o phases examples/phases.c -pthread */

/* phases - what one turn of the loop consists of. A box is drawn when the first callback of its
 * phase runs, and each callback adds its line: what you see is the order in which it happened.
 *
 * The first turn has work for every phase. In the second one nothing is due, so that the poll
 * phase sleeps until another thread wakes it. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

static evl_loop_t loop;
static evl_timer_t timer;
static evl_tcp_t sender, receiver; /* two ends of one connection */
static evl_write_t write_req;
static evl_idle_t idle;
static evl_prepare_t prepare;
static evl_check_t checker;
static evl_thread_t thread;
static uint64_t slept_from;

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

/* ---- The drawing ---- */

enum { TIMERS, PENDING, IDLE_PREPARE, POLL, CHECK, CLOSING, BEFORE };
static int phase = BEFORE;
static int turn = 0;

static void draw(int now, const char *note) {
    static const char *const titles[] = {
        "┌─>│           timers          │", "│  │     pending callbacks     │",
        "│  │       idle, prepare       │", "│  │           poll            │",
        "│  │           check           │", "└──┤      close callbacks      │",
    };
    if (now == phase) {
        printf("%s  │                           │  ← %s\n", now == CLOSING ? " " : "│", note);
        return;
    }
    if (phase == CLOSING)
        puts("   └───────────────────────────┘");
    else if (phase != BEFORE)
        puts("│  └─────────────┬─────────────┘");
    if (now < phase)
        printf("turn %d\n", ++turn);
    if (now == TIMERS)
        puts("   ┌───────────────────────────┐");
    else
        puts("│  ┌─────────────┴─────────────┐");
    printf("%s  ← %s\n", titles[now], note);
    phase = now;
}

/* ---- Callbacks, in the order in which they first run ---- */

static void on_written(evl_write_t *req, int status) {
    (void)req;
    check(status, "write");
    draw(PENDING, "the write has succeeded; its callback waits until here");
}

static void on_timer(evl_timer_t *handle) {
    static char text[] = "hello";
    evl_buf_t buf = evl_buf_init(text, 5);
    (void)handle;
    draw(TIMERS, "a timer of 0 ms; its callback writes to a socket");
    check(evl_write(&write_req, (evl_stream_t *)&sender, &buf, 1, on_written), "evl_write");
}

static void on_idle(evl_idle_t *handle) {
    (void)handle;
    draw(IDLE_PREPARE, "idle: while one is active the loop does not sleep");
}

static void on_prepare(evl_prepare_t *handle) {
    (void)handle;
    draw(IDLE_PREPARE, turn == 1 ? "prepare: right before poll" : "prepare: nothing is due");
    slept_from = evl_hrtime();
}

static void on_immediate(evl_loop_t *unused, void *arg) {
    (void)unused, (void)arg;
    draw(CHECK, "the immediate that on_read has set");
}

static void on_closed(evl_handle_t *handle) {
    char note[64];
    snprintf(note, sizeof note, "closed: %s", evl_handle_type_name(handle->type));
    draw(CLOSING, note);
}

static void on_check(evl_check_t *handle) {
    draw(CHECK, "check: right after poll");
    if (turn == 1) {
        evl_close((evl_handle_t *)&idle, on_closed);
        return;
    }
    evl_close((evl_handle_t *)&sender, on_closed);
    evl_close((evl_handle_t *)&receiver, on_closed);
    evl_close((evl_handle_t *)&timer, on_closed);
    evl_close((evl_handle_t *)&prepare, on_closed);
    evl_close((evl_handle_t *)handle, on_closed);
}

static void on_post(evl_loop_t *unused, void *arg) {
    char note[80];
    (void)unused, (void)arg;
    snprintf(note, sizeof note, "a post from another thread, after %.1f ms of sleep",
             (double)(evl_hrtime() - slept_from) / 1e6);
    draw(POLL, note);
}

static void in_another_thread(void *arg) {
    (void)arg;
    evl_sleep(20);
    check(evl_post(&loop, on_post, NULL), "evl_post");
}

static void on_timeout(evl_loop_t *unused, void *arg) {
    (void)unused, (void)arg;
    draw(TIMERS, "the timeout of 0 ms that on_read has set");
    check(evl_thread_create(&thread, in_another_thread, NULL), "evl_thread_create");
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    char note[64];
    (void)stream;
    check((int)nread, "read");
    if (nread == 0)
        return; /* nothing was there: neither an error nor the end */
    snprintf(note, sizeof note, "%d bytes have come: %.*s", (int)nread, (int)nread, buf->base);
    draw(POLL, note);
    check(evl_set_timeout(&loop, 0, on_timeout, NULL, NULL), "evl_set_timeout");
    check(evl_set_immediate(&loop, on_immediate, NULL, NULL), "evl_set_immediate");
}

int main(void) {
    evl_os_sock_t pair[2];

    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_timer_init(&loop, &timer), "evl_timer_init");
    check(evl_timer_start(&timer, on_timer, 0, 0), "evl_timer_start");
    check(evl_idle_init(&loop, &idle), "evl_idle_init");
    check(evl_idle_start(&idle, on_idle), "evl_idle_start");
    check(evl_prepare_init(&loop, &prepare), "evl_prepare_init");
    check(evl_prepare_start(&prepare, on_prepare), "evl_prepare_start");
    check(evl_check_init(&loop, &checker), "evl_check_init");
    check(evl_check_start(&checker, on_check), "evl_check_start");

    check(evl_socketpair(SOCK_STREAM, 0, pair, 0, 0), "evl_socketpair");
    check(evl_tcp_init(&loop, &sender), "evl_tcp_init");
    check(evl_tcp_open(&sender, pair[0]), "evl_tcp_open");
    check(evl_tcp_init(&loop, &receiver), "evl_tcp_init");
    check(evl_tcp_open(&receiver, pair[1]), "evl_tcp_open");
    check(evl_read_start((evl_stream_t *)&receiver, NULL, on_read), "evl_read_start");

    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    puts("   └───────────────────────────┘");
    check(evl_thread_join(&thread), "evl_thread_join");
    check(evl_loop_close(&loop), "evl_loop_close");
    return turn == 2 ? EXIT_SUCCESS : EXIT_FAILURE; /* two turns, each phase in its place */
}
