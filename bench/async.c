/* What it costs to wake the loop and have a callback called: from its own thread, from others that
 * send all the time, and when it sleeps.
 * Libraries: evloop libuv libev libevent bare
 *
 * Bare is an eventfd for each handle, watched edge-triggered: every send is a system call. */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>

#if defined(BENCH_LIBEVENT)
#include <event2/event_struct.h>
#include <event2/thread.h>
#elif defined(BENCH_BARE)
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

enum { MOST = 10000, SENDERS = 2, ROUND = 1000, FLOOD_US = 100000, TRIPS = 20000 };

static void on_sent(unsigned index);

/* ---- The libraries: an array of handles, each with the number of its callbacks ---- */

#if defined(BENCH_EVLOOP)

static struct {
    evl_async_t async;
    unsigned runs;
} handles[MOST + 1];

static evl_loop_t loop;

static void on_async(evl_async_t *async) {
    on_sent((unsigned)(uintptr_t)async->data);
}

static void open_handles(unsigned count) {
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    for (unsigned i = 0; i < count; i++) {
        bench_check(evl_async_init(&loop, &handles[i].async, on_async) == 0, "evl_async_init");
        handles[i].async.data = (void *)(uintptr_t)i;
    }
}

static inline void send_to(unsigned index) {
    bench_check(evl_async_send(&handles[index].async) == 0, "evl_async_send");
}

static inline void run_once(void) {
    evl_run(&loop, EVL_RUN_NOWAIT);
}

static void run(void) {
    evl_run(&loop, EVL_RUN_DEFAULT);
}

static void stop_running(void) {
    evl_stop(&loop);
}

static void close_handles(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        evl_close((evl_handle_t *)&handles[i].async, NULL);
    run();
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

static struct {
    uv_async_t async;
    unsigned runs;
} handles[MOST + 1];

static uv_loop_t loop;

static void on_async(uv_async_t *async) {
    on_sent((unsigned)(uintptr_t)async->data);
}

static void open_handles(unsigned count) {
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    for (unsigned i = 0; i < count; i++) {
        bench_check(uv_async_init(&loop, &handles[i].async, on_async) == 0, "uv_async_init");
        handles[i].async.data = (void *)(uintptr_t)i;
    }
}

static inline void send_to(unsigned index) {
    bench_check(uv_async_send(&handles[index].async) == 0, "uv_async_send");
}

static inline void run_once(void) {
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void stop_running(void) {
    uv_stop(&loop);
}

static void close_handles(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        uv_close((uv_handle_t *)&handles[i].async, NULL);
    run();
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEV)

static struct {
    ev_async async;
    unsigned runs;
} handles[MOST + 1];

static struct ev_loop *loop;

static void on_async(struct ev_loop *from, ev_async *async, int events) {
    (void)from;
    (void)events;
    on_sent((unsigned)(uintptr_t)async->data);
}

static void open_handles(unsigned count) {
    loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    for (unsigned i = 0; i < count; i++) {
        ev_async_init(&handles[i].async, on_async);
        handles[i].async.data = (void *)(uintptr_t)i;
        ev_async_start(loop, &handles[i].async);
    }
}

static inline void send_to(unsigned index) {
    ev_async_send(loop, &handles[index].async);
}

static inline void run_once(void) {
    ev_run(loop, EVRUN_NOWAIT);
}

static void run(void) {
    ev_run(loop, 0);
}

static void stop_running(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void close_handles(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        ev_async_stop(loop, &handles[i].async);
    ev_loop_destroy(loop);
}

#elif defined(BENCH_LIBEVENT)

static struct {
    struct event event;
    unsigned runs;
} handles[MOST + 1];

static struct event_base *loop;

static void on_user(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    on_sent((unsigned)(uintptr_t)arg);
}

static void open_handles(unsigned count) {
    bench_check(evthread_use_pthreads() == 0, "evthread_use_pthreads");
    loop = event_base_new();
    bench_check(loop != NULL, "event_base_new");
    for (unsigned i = 0; i < count; i++)
        bench_check(event_assign(&handles[i].event, loop, -1, 0, on_user, (void *)(uintptr_t)i) ==
                        0,
                    "event_assign");
}

static inline void send_to(unsigned index) {
    evuser_trigger(&handles[index].event);
}

/* One iteration: without EVLOOP_ONCE it would ask the kernel again after the callbacks. */
static inline void run_once(void) {
    event_base_loop(loop, EVLOOP_ONCE | EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY);
}

static void run(void) {
    bench_check(event_base_loop(loop, EVLOOP_NO_EXIT_ON_EMPTY) == 0, "event_base_loop");
}

static void stop_running(void) {
    bench_check(event_base_loopexit(loop, NULL) == 0, "event_base_loopexit");
}

static void close_handles(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        bench_check(evuser_del(&handles[i].event) == 0, "evuser_del");
    event_base_free(loop);
}

#else

static struct {
    int fd;
    unsigned runs;
} handles[MOST + 1];

static int loop, running;

static void open_handles(unsigned count) {
    struct epoll_event event = {0};
    bench_raise_limit();
    loop = epoll_create1(EPOLL_CLOEXEC);
    bench_check(loop >= 0, "epoll_create1");
    event.events = EPOLLIN | EPOLLET;
    for (unsigned i = 0; i < count; i++) {
        handles[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        event.data.u32 = i;
        bench_check(handles[i].fd >= 0, "eventfd");
        bench_check(epoll_ctl(loop, EPOLL_CTL_ADD, handles[i].fd, &event) == 0, "epoll_ctl");
    }
}

static inline void send_to(unsigned index) {
    bench_check(eventfd_write(handles[index].fd, 1) == 0, "eventfd_write");
}

static void wait_for(int timeout) {
    struct epoll_event ready[1024];
    int count = epoll_wait(loop, ready, 1024, timeout);
    bench_check(count >= 0, "epoll_wait");
    for (int i = 0; i < count; i++)
        on_sent(ready[i].data.u32);
}

static inline void run_once(void) {
    wait_for(0);
}

static void run(void) {
    for (running = 1; running;)
        wait_for(-1);
}

static void stop_running(void) {
    running = 0;
}

static void close_handles(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(handles[i].fd);
    close(loop);
}

#endif

/* ---- The same for all of them ---- */

static unsigned received;  /* callbacks since the handles were opened */
static unsigned last;      /* the handle whose callback ends the run */
static unsigned answering; /* whether callbacks post `answer` */
static sem_t answer;
static unsigned links; /* callbacks of a chain that send to the next of so many handles */
static unsigned chained;

static void on_sent(unsigned index) {
    __atomic_store_n(&handles[index].runs, handles[index].runs + 1, __ATOMIC_RELEASE);
    received++;
    if (answering && index != last)
        bench_check(sem_post(&answer) == 0, "sem_post");
    if (links > 0 && --links > 0)
        send_to((index + 617) % chained);
    else if (index == last || chained > 0)
        stop_running();
}

/* Opens this many handles, and one to end the run. */
static void begin_case(unsigned count, unsigned ending) {
    received = 0;
    last = ending ? count : MOST + 1;
    for (unsigned i = 0; i <= MOST; i++)
        handles[i].runs = 0;
    open_handles(count + ending);
    run_once();
}

static const char *name_of(const char *what, unsigned handle_count) {
    static char name[64];
    snprintf(name, sizeof(name), "%s, %u handle%s", what, handle_count,
             handle_count == 1 ? "" : "s");
    return name;
}

/* ---- From the loop's thread ---- */

/* Between the runs of the loop. Each time another handle, so that no place in a list is favoured. */
static void measure_send(unsigned count, unsigned sends) {
    const char *name = name_of("send", count);
    uint64_t begin, end;
    unsigned at = 0;
    if (!bench_wants(name))
        return;
    begin_case(count, 0);
    begin = bench_now_ns();
    for (unsigned i = 0; i < sends; i++) {
        at = (at + 617) % count;
        send_to(at);
        run_once();
        bench_check(received == i + 1 && handles[at].runs == i / count + 1, "receiving");
    }
    end = bench_now_ns();
    close_handles(count);
    bench_report(name, "ns", (double)(end - begin) / sends);
}

/* In callbacks: each sends to the next handle. */
static void measure_chain(unsigned count, unsigned sends) {
    const char *name = name_of("send in a callback", count);
    uint64_t begin, end;
    if (!bench_wants(name))
        return;
    begin_case(count, 0);
    links = sends;
    chained = count;
    send_to(0);
    begin = bench_now_ns();
    run();
    end = bench_now_ns();
    chained = 0;
    bench_check(received == sends, "receiving");
    close_handles(count);
    bench_report(name, "ns", (double)(end - begin) / sends);
}

/* ---- From other threads ---- */

typedef struct {
    unsigned first;    /* the handle to begin with */
    unsigned count;    /* of handles, of which ROUND is a multiple */
    unsigned in_turns; /* whether a handle's callback must have come before it is sent to again */
    unsigned rounds;   /* of ROUND sends: to be made, or made */
} sender_t;

static sem_t go;
static cpu_set_t processors;
static uint64_t deadline_ns;
static unsigned senders_left;

/* Over and over the handles until the time is up; the last sender to finish ends the run. */
static void *send_rounds(void *arg) {
    sender_t *sender = (sender_t *)arg;
    unsigned at = sender->first;
    bench_check(sem_wait(&go) == 0, "sem_wait");
    for (; sender->rounds == 0 || bench_now_ns() < deadline_ns; sender->rounds++) {
        for (unsigned i = 0; i < ROUND; i++) {
            while (sender->in_turns &&
                   __atomic_load_n(&handles[at].runs, __ATOMIC_ACQUIRE) < sender->rounds)
                sched_yield();
            send_to(at);
            if (++at == sender->count)
                at = 0;
        }
    }
    if (__atomic_sub_fetch(&senders_left, 1, __ATOMIC_ACQ_REL) == 0)
        send_to(last);
    return NULL;
}

static void keep_on(pthread_t thread, unsigned place) {
    cpu_set_t one = bench_processor(&processors, place);
    bench_check(pthread_setaffinity_np(thread, sizeof(one), &one) == 0, "pthread_setaffinity_np");
}

/* Runs the loop while threads send to it: each stays on a processor, since where the system would put
 * them decides everything. Returns how long it took. */
static double run_beside(unsigned threads, void *(*start)(void *), sender_t *senders, int apart) {
    pthread_t ids[SENDERS];
    uint64_t begin, end;
    unsigned others = (unsigned)CPU_COUNT(&processors) - 1;
    senders_left = threads;
    keep_on(pthread_self(), 0);
    for (unsigned i = 0; i < threads; i++) {
        bench_check(pthread_create(&ids[i], NULL, start, &senders[i]) == 0, "pthread_create");
        keep_on(ids[i], apart && others > 0 ? 1 + i % others : 0);
    }
    begin = bench_now_ns();
    deadline_ns = begin + bench_scaled(FLOOD_US) * UINT64_C(1000);
    for (unsigned i = 0; i < threads; i++)
        bench_check(sem_post(&go) == 0, "sem_post");
    run();
    end = bench_now_ns();
    for (unsigned i = 0; i < threads; i++)
        bench_check(pthread_join(ids[i], NULL) == 0, "pthread_join");
    bench_check(sched_setaffinity(0, sizeof(processors), &processors) == 0, "sched_setaffinity");
    return (double)(end - begin);
}

/* Each callback came, and not too often; and no handle is stuck: each is called back once more. What
 * was sent shortly before the end may come after it. */
static void check_received(unsigned count, unsigned least, unsigned most) {
    unsigned before;
    do {
        before = received;
        run_once();
    } while (received != before);
    for (unsigned i = 0; i < count; i++)
        bench_check(handles[i].runs >= least && handles[i].runs <= most, "receiving");
    for (unsigned i = 0; i < count; i++) {
        before = received;
        send_to(i);
        run_once();
        bench_check(received == before + 1, "receiving once more");
    }
}

/* Sends that become one callback are cheap, and a loop that is slow to call back makes the most of
 * them: so the callbacks are counted, too. */
static void measure_flood(unsigned threads, unsigned count) {
    char name[64];
    sender_t senders[SENDERS];
    unsigned rounds = 0, callbacks;
    double ns;
    snprintf(name, sizeof(name), "flood, %u thread%s, %u handle%s", threads,
             threads == 1 ? "" : "s", count, count == 1 ? "" : "s");
    if (!bench_wants(name))
        return;
    begin_case(count, 1);
    for (unsigned i = 0; i < threads; i++) {
        sender_t sender = {i * count / threads, count, 0, 0};
        senders[i] = sender;
    }
    ns = run_beside(threads, send_rounds, senders, 1);
    callbacks = received - 1;
    for (unsigned i = 0; i < threads; i++)
        rounds += senders[i].rounds;
    check_received(count, 1, rounds * (ROUND / count));
    close_handles(count + 1);
    bench_report(name, "ns", ns / ROUND / rounds);
    bench_report(name, "calls/s", callbacks / ns * 1e9);
}

/* As many callbacks as sends: a handle is not sent to again before its callback has come. */
static void measure_turns(void) {
    sender_t sender = {0, ROUND, 1, 0};
    double ns;
    if (!bench_wants("flood in turns, 1 thread, 1000 handles"))
        return;
    begin_case(ROUND, 1);
    ns = run_beside(1, send_rounds, &sender, 1);
    check_received(ROUND, sender.rounds, sender.rounds);
    close_handles(ROUND + 1);
    bench_report("flood in turns, 1 thread, 1000 handles", "ns", ns / ROUND / sender.rounds);
}

/* ---- A loop that sleeps ---- */

static int loop_stat = -1; /* what the system says of the loop's thread */
static uint64_t awaited_ns;

static void open_loop_stat(void) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)gettid());
    loop_stat = open(path, O_RDONLY | O_CLOEXEC);
    bench_check(loop_stat >= 0, path);
}

/* The state follows the name, which is in parentheses. */
static int loop_sleeps(void) {
    char line[256];
    const char *name_end;
    ssize_t length = pread(loop_stat, line, sizeof(line) - 1, 0);
    bench_check(length > 0, "reading the thread's state");
    line[length] = '\0';
    name_end = strrchr(line, ')');
    return name_end != NULL && name_end[1] == ' ' && name_end[2] == 'S';
}

/* Else the answer would often come before the loop had gone to sleep again, and it would not need to be
 * woken. Only the way from the send to the answer is measured. */
static void *send_when_asleep(void *arg) {
    unsigned rounds = ((const sender_t *)arg)->rounds;
    bench_check(sem_wait(&go) == 0, "sem_wait");
    awaited_ns = 0;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t begin;
        while (!loop_sleeps())
            sched_yield();
        begin = bench_now_ns();
        send_to(0);
        bench_check(sem_wait(&answer) == 0, "sem_wait");
        awaited_ns += bench_now_ns() - begin;
    }
    send_to(last);
    return NULL;
}

static void measure_wake_up(const char *name, int apart, unsigned trips) {
    sender_t sender = {0, 1, 0, trips};
    if (!bench_wants(name))
        return;
    begin_case(1, 1);
    open_loop_stat();
    answering = 1;
    run_beside(1, send_when_asleep, &sender, apart);
    answering = 0;
    check_received(1, trips, trips);
    close(loop_stat);
    close_handles(2);
    bench_report(name, "ns", (double)awaited_ns / trips);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    bench_check(sem_init(&go, 0, 0) == 0 && sem_init(&answer, 0, 0) == 0, "sem_init");
    bench_check(sched_getaffinity(0, sizeof(processors), &processors) == 0, "sched_getaffinity");
    measure_send(1, bench_scaled(200000));
    measure_send(100, bench_scaled(100000));
    measure_send(1000, bench_scaled(20000));
    measure_send(MOST, bench_scaled(2000));
    measure_chain(1, bench_scaled(200000));
    measure_chain(1000, bench_scaled(20000));
    for (unsigned threads = 1; threads <= SENDERS; threads++) {
        measure_flood(threads, 1);
        measure_flood(threads, ROUND);
    }
    measure_turns();
    measure_wake_up("wake-up, same processor", 0, bench_scaled(TRIPS));
    measure_wake_up("wake-up, other processor", 1, bench_scaled(TRIPS / 10));
    return 0;
}
