/* What a timer costs: to start it, to start it anew, to stop it, and to have it expire.
 * Libraries: evloop libuv libev libevent
 *
 * All calls are made in a callback of the loop, as in a program: there libevent, too, keeps the time.
 * With --scale below 1 fewer timers live than the names of the cases say. */
#include "bench.h"

#if defined(BENCH_LIBEVENT)
#include <event2/event_struct.h>
#endif

enum { MOST = 1000000, TOUCHED = 100000, CHAIN = 100000, CHAINED = 2 };

/* Delays in milliseconds. Nothing that is to stay alive expires: it is due in one to two hours. */
enum { HOUR = 3600000, SOON = 100 };

static void on_trigger_due(void);
static void on_expired(unsigned index);

/* ---- The libraries: an array of timers, each with the number of its runs ---- */

#if defined(BENCH_EVLOOP)

typedef struct {
    evl_timer_t timer;
    unsigned runs;
} entry_t;

static evl_loop_t loop;
static entry_t *entries;
static evl_timer_t trigger;

static void on_timer(evl_timer_t *timer) {
    on_expired((unsigned)((entry_t *)timer - entries));
}

static void on_trigger(evl_timer_t *timer) {
    (void)timer;
    on_trigger_due();
}

static void open_timers(unsigned count) {
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    evl_timer_init(&loop, &trigger);
    for (unsigned i = 0; i < count; i++)
        evl_timer_init(&loop, &entries[i].timer);
}

static inline void start(unsigned index, unsigned ms) {
    bench_check(evl_timer_start(&entries[index].timer, on_timer, ms, 0) == 0, "evl_timer_start");
}

static inline void restart(unsigned index, unsigned ms) {
    start(index, ms);
}

static inline void stop(unsigned index) {
    bench_check(evl_timer_stop(&entries[index].timer) == 0, "evl_timer_stop");
}

static int is_active(unsigned index) {
    return evl_is_active((evl_handle_t *)&entries[index].timer);
}

static void start_trigger(void) {
    bench_check(evl_timer_start(&trigger, on_trigger, 0, 0) == 0, "evl_timer_start");
}

static void run(void) {
    evl_run(&loop, EVL_RUN_DEFAULT);
}

static void stop_running(void) {
    evl_stop(&loop);
}

static void close_timers(unsigned count) {
    evl_close((evl_handle_t *)&trigger, NULL);
    for (unsigned i = 0; i < count; i++)
        evl_close((evl_handle_t *)&entries[i].timer, NULL);
    run();
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

typedef struct {
    uv_timer_t timer;
    unsigned runs;
} entry_t;

static uv_loop_t loop;
static entry_t *entries;
static uv_timer_t trigger;

static void on_timer(uv_timer_t *timer) {
    on_expired((unsigned)((entry_t *)timer - entries));
}

static void on_trigger(uv_timer_t *timer) {
    (void)timer;
    on_trigger_due();
}

static void open_timers(unsigned count) {
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    uv_timer_init(&loop, &trigger);
    for (unsigned i = 0; i < count; i++)
        uv_timer_init(&loop, &entries[i].timer);
}

static inline void start(unsigned index, unsigned ms) {
    bench_check(uv_timer_start(&entries[index].timer, on_timer, ms, 0) == 0, "uv_timer_start");
}

static inline void restart(unsigned index, unsigned ms) {
    start(index, ms);
}

static inline void stop(unsigned index) {
    bench_check(uv_timer_stop(&entries[index].timer) == 0, "uv_timer_stop");
}

static int is_active(unsigned index) {
    return uv_is_active((uv_handle_t *)&entries[index].timer);
}

static void start_trigger(void) {
    bench_check(uv_timer_start(&trigger, on_trigger, 0, 0) == 0, "uv_timer_start");
}

static void run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void stop_running(void) {
    uv_stop(&loop);
}

static void close_timers(unsigned count) {
    uv_close((uv_handle_t *)&trigger, NULL);
    for (unsigned i = 0; i < count; i++)
        uv_close((uv_handle_t *)&entries[i].timer, NULL);
    run();
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEV)

typedef struct {
    ev_timer timer;
    unsigned runs;
} entry_t;

static struct ev_loop *loop;
static entry_t *entries;
static ev_timer trigger;

static void on_timer(struct ev_loop *from, ev_timer *timer, int events) {
    (void)events;
    if (timer->repeat != 0.)
        ev_timer_stop(from, timer);
    on_expired((unsigned)((entry_t *)timer - entries));
}

static void on_trigger(struct ev_loop *from, ev_timer *timer, int events) {
    (void)from;
    (void)timer;
    (void)events;
    on_trigger_due();
}

static void open_timers(unsigned count) {
    loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    ev_timer_init(&trigger, on_trigger, 0., 0.);
    for (unsigned i = 0; i < count; i++)
        ev_init(&entries[i].timer, on_timer);
}

static inline void start(unsigned index, unsigned ms) {
    ev_timer_set(&entries[index].timer, ms * 1e-3, 0.);
    ev_timer_start(loop, &entries[index].timer);
}

/* The manual's way for timeouts that activity puts off. Such a timer repeats. */
static inline void restart(unsigned index, unsigned ms) {
    entries[index].timer.repeat = ms * 1e-3;
    ev_timer_again(loop, &entries[index].timer);
}

static inline void stop(unsigned index) {
    ev_timer_stop(loop, &entries[index].timer);
}

static int is_active(unsigned index) {
    return ev_is_active(&entries[index].timer);
}

static void start_trigger(void) {
    ev_timer_start(loop, &trigger);
}

static void run(void) {
    ev_run(loop, 0);
}

static void stop_running(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void close_timers(unsigned count) {
    (void)count;
    ev_loop_destroy(loop);
}

#else

typedef struct {
    struct event timer;
    unsigned runs;
} entry_t;

static struct event_base *loop;
static entry_t *entries;
static struct event *trigger;

static void on_timer(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    on_expired((unsigned)((entry_t *)arg - entries));
}

static void on_trigger(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    (void)arg;
    on_trigger_due();
}

static void open_timers(unsigned count) {
    loop = event_base_new();
    bench_check(loop != NULL, "event_base_new");
    trigger = evtimer_new(loop, on_trigger, NULL);
    bench_check(trigger != NULL, "evtimer_new");
    for (unsigned i = 0; i < count; i++)
        bench_check(evtimer_assign(&entries[i].timer, loop, on_timer, &entries[i]) == 0,
                    "evtimer_assign");
}

static inline void start(unsigned index, unsigned ms) {
    struct timeval delay;
    delay.tv_sec = ms / 1000;
    delay.tv_usec = ms % 1000 * 1000;
    bench_check(evtimer_add(&entries[index].timer, &delay) == 0, "evtimer_add");
}

static inline void restart(unsigned index, unsigned ms) {
    start(index, ms);
}

static inline void stop(unsigned index) {
    bench_check(evtimer_del(&entries[index].timer) == 0, "evtimer_del");
}

static int is_active(unsigned index) {
    return evtimer_pending(&entries[index].timer, NULL);
}

static void start_trigger(void) {
    static const struct timeval now;
    bench_check(evtimer_add(trigger, &now) == 0, "evtimer_add");
}

static void run(void) {
    bench_check(event_base_dispatch(loop) >= 0, "event_base_dispatch");
}

static void stop_running(void) {
    bench_check(event_base_loopbreak(loop) == 0, "event_base_loopbreak");
}

static void close_timers(unsigned count) {
    (void)count;
    event_free(trigger);
    event_base_free(loop);
}

#endif

/* ---- The same for all of them ---- */

static unsigned live;      /* timers of this case */
static unsigned touched;   /* so many of them are started anew, or stopped */
static unsigned expired;   /* callbacks since they were checked */
static unsigned links;     /* callbacks that are still to come in a cascade */
static uint32_t *order;    /* a shuffle of the timers: activity comes in no order */
static uint32_t seed = 1;  /* of the delays */
static void (*todo)(void); /* what the next callback is to do */
static uint64_t spent_ns;  /* in it */
static const char *const SIZES[] = {"1000 live", "100000 live", "1000000 live"};

static void on_trigger_due(void) {
    uint64_t begin = bench_now_ns();
    todo();
    spent_ns = bench_now_ns() - begin;
    stop_running();
}

/* Calls a function in a callback of the loop. Returns how long that took. */
static double in_callback(void (*work)(void)) {
    todo = work;
    start_trigger();
    run();
    return (double)spent_ns;
}

static void on_expired(unsigned index) {
    entries[index].runs++;
    expired++;
    if (links == 0)
        return;
    if (--links > 0)
        start(live + (index == live), 0);
    else
        stop_running();
}

/* Checks that each timer has run as often as it should, and will run no more. */
static void check_expired(unsigned first, unsigned end, unsigned runs) {
    bench_check(expired == (end - first) * runs, "running every timer");
    for (unsigned i = first; i < end; i++) {
        bench_check(entries[i].runs == runs && !is_active(i), "running each timer once");
        entries[i].runs = 0;
    }
    expired = 0;
}

static void choose(unsigned count) {
    unsigned most = bench_scaled(MOST);
    live = count < most ? count : most;
    touched = live < TOUCHED ? live : TOUCHED;
    for (unsigned i = 0; i < live; i++)
        order[i] = i;
    for (unsigned i = live; i > 1; i--) {
        uint32_t at = bench_random(&seed) % i, other = order[at];
        order[at] = order[i - 1];
        order[i - 1] = other;
    }
}

/* ---- Calls ---- */

static void insert_all(void) {
    for (unsigned i = 0; i < live; i++)
        start(i, HOUR + bench_random(&seed) % HOUR);
}

/* As if each had a timeout of two hours, and had last been put off some time in the past hour. */
static void put_off(void) {
    for (unsigned i = 0; i < touched; i++)
        restart(order[i], 2 * HOUR);
}

static void start_anew(void) {
    for (unsigned i = 0; i < touched; i++)
        restart(order[i], HOUR + bench_random(&seed) % HOUR);
}

static void stop_touched(void) {
    for (unsigned i = 0; i < touched; i++)
        stop(order[i]);
}

/* The last ones first: they lie at the ends of heaps, where stopping is quick. */
static void stop_all(void) {
    for (unsigned i = live; i-- > 0;)
        stop(i);
}

enum { INSERT, PUT_OFF, START_ANEW, STOP, CALLS };

static const struct {
    const char *name;
    void (*work)(void);
} calls[CALLS] = {{"insert", insert_all},
                  {"restart later", put_off},
                  {"restart at random", start_anew},
                  {"stop", stop_touched}};

static const char *name_of(const char *what, const char *size) {
    static char name[64];
    snprintf(name, sizeof(name), "%s, %s", what, size);
    return name;
}

static void measure_calls(const char *size) {
    double spent[CALLS] = {0};
    unsigned passes = bench_scaled(TOUCHED) / live + 1;
    int wanted[CALLS], any = 0;
    for (int i = 0; i < CALLS; i++)
        any |= wanted[i] = bench_wants(name_of(calls[i].name, size));
    if (!any)
        return;
    for (unsigned pass = 0; pass < passes; pass++) {
        for (int i = 0; i < CALLS; i++)
            if (wanted[i] || i == INSERT || i == STOP)
                spent[i] += in_callback(calls[i].work);
        in_callback(stop_all);
    }
    for (int i = 0; i < CALLS; i++)
        if (wanted[i])
            bench_report(name_of(calls[i].name, size), "ns",
                         spent[i] / passes / (i == INSERT ? live : touched));
}

/* ---- Expiring ---- */

static void start_soon(void) {
    for (unsigned i = 0; i < live; i++)
        start(i, 1 + bench_random(&seed) % SOON);
}

static void put_off_soon(void) {
    start_soon();
    for (unsigned i = 0; i < live; i++)
        restart(order[i], SOON + 1 + bench_random(&seed) % SOON);
}

/* Until all are due, also on the kernel's coarse clock, which libevent asks. */
static void wait_for(unsigned ms) {
    uint64_t end = bench_now_ns() + (ms + 20) * UINT64_C(1000000);
    while (bench_now_ns() < end)
        continue;
}

static void measure_expiry(const char *what, const char *size, void (*work)(void), unsigned ms) {
    uint64_t begin, end;
    const char *name = name_of(what, size);
    if (!bench_wants(name))
        return;
    in_callback(work);
    wait_for(ms);
    begin = bench_now_ns();
    run();
    end = bench_now_ns();
    check_expired(0, live, 1);
    bench_report(name, "ns", (double)(end - begin) / live);
}

/* ---- Cascades ---- */

static void start_link(void) {
    start(live, 0);
}

static void measure_cascade(const char *size) {
    const char *name = name_of("cascade", size);
    unsigned count = bench_scaled(CHAIN) / CHAINED * CHAINED + CHAINED;
    uint64_t begin, end;
    if (!bench_wants(name))
        return;
    in_callback(insert_all);
    links = count;
    begin = bench_now_ns();
    in_callback(start_link);
    if (links > 0) /* libuv before 1.45 has run the whole chain already */
        run();
    end = bench_now_ns();
    in_callback(stop_all);
    check_expired(live, live + CHAINED, count / CHAINED);
    bench_report(name, "ns", (double)(end - begin) / count);
}

int main(int argc, char **argv) {
    static const unsigned counts[] = {1000, 100000, MOST};
    unsigned most;
    bench_begin(argc, argv);
    most = bench_scaled(MOST) + CHAINED;
    entries = (entry_t *)calloc(most, sizeof(*entries));
    order = (uint32_t *)calloc(most, sizeof(*order));
    bench_check(entries != NULL && order != NULL, "calloc");
    open_timers(most);
    for (unsigned i = 0; i < 3; i++) {
        choose(counts[i]);
        measure_calls(SIZES[i]);
        measure_expiry("expire", SIZES[i], start_soon, SOON);
        if (i == 1)
            measure_expiry("expire after a restart", SIZES[i], put_off_soon, 2 * SOON);
        if (i == 0)
            measure_cascade(SIZES[i]);
    }
    close_timers(most);
    free(entries);
    free(order);
    return 0;
}
