/* What it costs to have a function called soon: before the loop goes on (tick, microtask), or in the
 * loop's next iteration (immediate).
 * Libraries: evloop libuv libev libevent
 *
 * A chain is a task that queues the next one; a burst is many queued by one callback. Where a library
 * has no such queue, what its programs use instead stands for it, or nothing. */
#include "bench.h"

#if defined(BENCH_LIBEVENT)
#include <event2/event_struct.h>
#endif

enum { BURST = 1000, BURSTS = 2000, TICKS = 5000000, IMMEDIATES = 200000 };

typedef struct {
    const char *chain, *burst; /* names of the cases */
    void (*queue)(unsigned index);
    unsigned chained; /* tasks in the chain */
} kind_t;

static void on_trigger_due(void);
static inline void on_task(unsigned *runs, void (*queue)(unsigned index));

/* ---- The libraries: the kinds of tasks that they have ---- */

#if defined(BENCH_EVLOOP)

static evl_loop_t loop;
static evl_timer_t trigger;
static unsigned runs_of[BURST];

static void on_trigger(evl_timer_t *timer) {
    (void)timer;
    on_trigger_due();
}

static void queue_tick(unsigned index);
static void queue_microtask(unsigned index);
static void queue_immediate(unsigned index);

static void on_tick(evl_loop_t *from, void *arg) {
    (void)from;
    on_task((unsigned *)arg, queue_tick);
}

static void on_microtask(evl_loop_t *from, void *arg) {
    (void)from;
    on_task((unsigned *)arg, queue_microtask);
}

static void on_immediate(evl_loop_t *from, void *arg) {
    (void)from;
    on_task((unsigned *)arg, queue_immediate);
}

static void queue_tick(unsigned index) {
    bench_check(evl_next_tick(&loop, on_tick, &runs_of[index]) == 0, "evl_next_tick");
}

static void queue_microtask(unsigned index) {
    bench_check(evl_queue_microtask(&loop, on_microtask, &runs_of[index]) == 0,
                "evl_queue_microtask");
}

static void queue_immediate(unsigned index) {
    bench_check(evl_set_immediate(&loop, on_immediate, &runs_of[index], NULL) == 0,
                "evl_set_immediate");
}

static const kind_t kinds[] = {
    {"tick, chain", "tick, burst", queue_tick, TICKS},
    {"microtask, chain", "microtask, burst", queue_microtask, TICKS},
    {"immediate, chain", "immediate, burst", queue_immediate, IMMEDIATES}};

static unsigned *runs(unsigned index) {
    return &runs_of[index];
}

static void open_loop(void) {
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
    evl_timer_init(&loop, &trigger);
}

static void start_trigger(void) {
    bench_check(evl_timer_start(&trigger, on_trigger, 0, 0) == 0, "evl_timer_start");
}

static void run(void) {
    bench_check(evl_run(&loop, EVL_RUN_DEFAULT) == 0, "evl_run");
}

static void close_loop(void) {
    evl_close((evl_handle_t *)&trigger, NULL);
    run();
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

/* Idle handles, each started for one run: they also keep the loop from sleeping. */
static struct {
    uv_idle_t idle;
    unsigned runs;
} entries[BURST];

static uv_loop_t loop;
static uv_timer_t trigger;

static void on_trigger(uv_timer_t *timer) {
    (void)timer;
    on_trigger_due();
}

static void queue_immediate(unsigned index);

static void on_idle(uv_idle_t *idle) {
    bench_check(uv_idle_stop(idle) == 0, "uv_idle_stop");
    on_task((unsigned *)idle->data, queue_immediate);
}

static void queue_immediate(unsigned index) {
    bench_check(uv_idle_start(&entries[index].idle, on_idle) == 0, "uv_idle_start");
}

static const kind_t kinds[] = {
    {"immediate, chain", "immediate, burst", queue_immediate, IMMEDIATES}};

static unsigned *runs(unsigned index) {
    return &entries[index].runs;
}

static void open_loop(void) {
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
    uv_timer_init(&loop, &trigger);
    for (unsigned i = 0; i < BURST; i++) {
        uv_idle_init(&loop, &entries[i].idle);
        entries[i].idle.data = runs(i);
    }
}

static void start_trigger(void) {
    bench_check(uv_timer_start(&trigger, on_trigger, 0, 0) == 0, "uv_timer_start");
}

static void run(void) {
    bench_check(uv_run(&loop, UV_RUN_DEFAULT) == 0, "uv_run");
}

static void close_loop(void) {
    uv_close((uv_handle_t *)&trigger, NULL);
    for (unsigned i = 0; i < BURST; i++)
        uv_close((uv_handle_t *)&entries[i].idle, NULL);
    run();
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#elif defined(BENCH_LIBEV)

/* An event fed to a watcher is invoked before the loop goes on, as a tick is. */
static struct {
    ev_timer fed; /* never started: any watcher would do */
    ev_idle idle;
    unsigned runs;
} entries[BURST];

static struct ev_loop *loop;
static ev_timer trigger;

static void on_trigger(struct ev_loop *from, ev_timer *timer, int events) {
    (void)from;
    (void)timer;
    (void)events;
    on_trigger_due();
}

static void queue_tick(unsigned index);
static void queue_immediate(unsigned index);

static void on_fed(struct ev_loop *from, ev_timer *timer, int events) {
    (void)from;
    (void)events;
    on_task((unsigned *)timer->data, queue_tick);
}

static void on_idle(struct ev_loop *from, ev_idle *idle, int events) {
    (void)events;
    ev_idle_stop(from, idle);
    on_task((unsigned *)idle->data, queue_immediate);
}

static void queue_tick(unsigned index) {
    ev_feed_event(loop, &entries[index].fed, EV_CUSTOM);
}

static void queue_immediate(unsigned index) {
    ev_idle_start(loop, &entries[index].idle);
}

static const kind_t kinds[] = {
    {"tick, chain", "tick, burst", queue_tick, TICKS},
    {"immediate, chain", "immediate, burst", queue_immediate, IMMEDIATES}};

static unsigned *runs(unsigned index) {
    return &entries[index].runs;
}

static void open_loop(void) {
    loop = ev_loop_new(EVFLAG_AUTO);
    bench_check(loop != NULL, "ev_loop_new");
    ev_timer_init(&trigger, on_trigger, 0., 0.);
    for (unsigned i = 0; i < BURST; i++) {
        ev_init(&entries[i].fed, on_fed);
        ev_init(&entries[i].idle, on_idle);
        entries[i].fed.data = entries[i].idle.data = runs(i);
    }
}

static void start_trigger(void) {
    ev_timer_start(loop, &trigger);
}

static void run(void) {
    bench_check(!ev_run(loop, 0), "ev_run");
}

static void close_loop(void) {
    ev_loop_destroy(loop);
}

#else

/* An event made active is run before the loop goes on, as a tick is; one that is added with no timeout
 * in the next iteration. */
static struct {
    struct event activated, added;
    unsigned runs;
} entries[BURST];

static struct event_base *loop;
static struct event *trigger;

static void on_trigger(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    (void)arg;
    on_trigger_due();
}

static void queue_tick(unsigned index);
static void queue_immediate(unsigned index);

static void on_activated(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    on_task((unsigned *)arg, queue_tick);
}

static void on_added(evutil_socket_t fd, short events, void *arg) {
    (void)fd;
    (void)events;
    on_task((unsigned *)arg, queue_immediate);
}

static void queue_tick(unsigned index) {
    event_active(&entries[index].activated, EV_TIMEOUT, 0);
}

static void queue_immediate(unsigned index) {
    static const struct timeval now;
    bench_check(event_add(&entries[index].added, &now) == 0, "event_add");
}

static const kind_t kinds[] = {
    {"tick, chain", "tick, burst", queue_tick, TICKS},
    {"immediate, chain", "immediate, burst", queue_immediate, IMMEDIATES}};

static unsigned *runs(unsigned index) {
    return &entries[index].runs;
}

static void open_loop(void) {
    int err = 0;
    loop = event_base_new();
    bench_check(loop != NULL, "event_base_new");
    trigger = evtimer_new(loop, on_trigger, NULL);
    bench_check(trigger != NULL, "evtimer_new");
    for (unsigned i = 0; i < BURST; i++) {
        err |= event_assign(&entries[i].activated, loop, -1, 0, on_activated, runs(i));
        err |= event_assign(&entries[i].added, loop, -1, 0, on_added, runs(i));
    }
    bench_check(err == 0, "event_assign");
}

static void start_trigger(void) {
    static const struct timeval now;
    bench_check(evtimer_add(trigger, &now) == 0, "evtimer_add");
}

static void run(void) {
    bench_check(event_base_dispatch(loop) == 1, "event_base_dispatch");
}

static void close_loop(void) {
    event_free(trigger);
    event_base_free(loop);
}

#endif

/* ---- The same for all of them ---- */

static const kind_t *kind; /* of this case */
static unsigned links;     /* tasks of a chain that are still to be queued */
static unsigned bursts;    /* that are still to be queued */
static unsigned pending;   /* tasks of a burst that have not run yet */

static void on_trigger_due(void) {
    if (links > 0) {
        links--;
        kind->queue(0);
        return;
    }
    bursts--;
    pending = BURST;
    for (unsigned i = 0; i < BURST; i++)
        kind->queue(i);
}

static inline void on_task(unsigned *count, void (*queue)(unsigned index)) {
    ++*count;
    if (links > 0)
        queue(links-- % 2);
    else if (pending > 0 && --pending == 0 && bursts > 0)
        start_trigger();
}

/* Runs the loop until it finds nothing more to do; then checks how often the tasks have run. */
static void measure(const char *name, unsigned tasks, unsigned each) {
    uint64_t begin, end;
    uint64_t sum = 0;
    start_trigger();
    begin = bench_now_ns();
    run();
    end = bench_now_ns();
    for (unsigned i = 0; i < BURST; i++) {
        bench_check(each == 0 || *runs(i) == each, "running each task once");
        sum += *runs(i);
        *runs(i) = 0;
    }
    bench_check(sum == tasks, "running every task");
    bench_report(name, "ns", (double)(end - begin) / tasks);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    open_loop();
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        kind = &kinds[i];
        if (bench_wants(kind->chain)) {
            links = bench_scaled(kind->chained);
            measure(kind->chain, links, 0);
        }
        if (bench_wants(kind->burst)) {
            bursts = bench_scaled(BURSTS);
            measure(kind->burst, bursts * BURST, bursts);
        }
    }
    close_loop();
    return 0;
}
