/* Idle, prepare and check handles: order, and what callbacks may do to each other. */
#include "trace.h"

/* The three kinds have the same functions: one table row each, so that each test runs for all. */
typedef union {
    evl_handle_t handle;
    evl_idle_t idle;
    evl_prepare_t prepare;
    evl_check_t check;
} watcher_t;

typedef void (*watcher_cb)(watcher_t *watcher);

typedef struct {
    const char *name;
    int (*init)(evl_loop_t *loop, watcher_t *watcher);
    int (*start)(watcher_t *watcher, watcher_cb cb);
    int (*stop)(watcher_t *watcher);
} kind_t;

static watcher_cb idle_cb, prepare_cb, check_cb;

static void on_idle(evl_idle_t *idle) {
    idle_cb((watcher_t *)(void *)idle);
}

static void on_prepare(evl_prepare_t *prepare) {
    prepare_cb((watcher_t *)(void *)prepare);
}

static void on_check(evl_check_t *check) {
    check_cb((watcher_t *)(void *)check);
}

static int idle_init(evl_loop_t *loop, watcher_t *watcher) {
    return evl_idle_init(loop, &watcher->idle);
}

static int prepare_init(evl_loop_t *loop, watcher_t *watcher) {
    return evl_prepare_init(loop, &watcher->prepare);
}

static int check_init(evl_loop_t *loop, watcher_t *watcher) {
    return evl_check_init(loop, &watcher->check);
}

static int idle_start(watcher_t *watcher, watcher_cb cb) {
    if (cb == NULL)
        return evl_idle_start(&watcher->idle, NULL);
    idle_cb = cb;
    return evl_idle_start(&watcher->idle, on_idle);
}

static int prepare_start(watcher_t *watcher, watcher_cb cb) {
    if (cb == NULL)
        return evl_prepare_start(&watcher->prepare, NULL);
    prepare_cb = cb;
    return evl_prepare_start(&watcher->prepare, on_prepare);
}

static int check_start(watcher_t *watcher, watcher_cb cb) {
    if (cb == NULL)
        return evl_check_start(&watcher->check, NULL);
    check_cb = cb;
    return evl_check_start(&watcher->check, on_check);
}

static int idle_stop(watcher_t *watcher) {
    return evl_idle_stop(&watcher->idle);
}

static int prepare_stop(watcher_t *watcher) {
    return evl_prepare_stop(&watcher->prepare);
}

static int check_stop(watcher_t *watcher) {
    return evl_check_stop(&watcher->check);
}

static const kind_t kinds[] = {{"idle", idle_init, idle_start, idle_stop},
                               {"prepare", prepare_init, prepare_start, prepare_stop},
                               {"check", check_init, check_start, check_stop}};

#define FOR_EACH_KIND(kind)                                                                        \
    for (const kind_t *kind = kinds; kind != kinds + sizeof(kinds) / sizeof(kinds[0]); kind++)

static const kind_t *current;
static evl_loop_t loop;
static watcher_t watchers[8];
static int calls;

static void trace_watcher(watcher_t *watcher) {
    trace((const char *)watcher->handle.data);
}

/* Starts `count` of the watchers, which trace a, b, c, … by default. */
static void begin(const kind_t *kind, int count, watcher_cb cb) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    current = kind;
    calls = 0;
    memset(&loop, 0xa5, sizeof(loop)); /* init relies on nothing */
    memset(watchers, 0xa5, sizeof(watchers));
    CHECK_EQ(evl_loop_init(&loop), 0);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(kind->init(&loop, &watchers[i]), 0);
        watchers[i].handle.data = text(names[i]);
        if (i < count)
            CHECK_EQ(kind->start(&watchers[i], cb), 0);
    }
}

/* One iteration whatever is active; the tests also count on it not to sleep. */
static void turn(void) {
    evl_run(&loop, EVL_RUN_NOWAIT);
}

TEST(watcher_runs_in_start_order) {
    FOR_EACH_KIND(kind) {
        begin(kind, 5, trace_watcher);
        turn();
        turn();
        CHECK_TRACE("abcdeabcde");
        /* Stopped and started again: last. */
        CHECK_EQ(kind->stop(&watchers[1]), 0);
        CHECK_EQ(kind->start(&watchers[1], trace_watcher), 0);
        CHECK_EQ(kind->stop(&watchers[3]), 0);
        turn();
        CHECK_EQ(kind->start(&watchers[3], trace_watcher), 0);
        turn();
        CHECK_TRACE("acebacebd");
        finish(&loop);
    }
}

TEST(watcher_start_and_stop_twice_change_nothing) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, trace_watcher);
        CHECK_EQ(kind->start(&watchers[0], trace_watcher), 0); /* keeps its place */
        CHECK_EQ(evl_is_active(&watchers[0].handle), 1);
        turn();
        CHECK_TRACE("abc");
        CHECK_EQ(kind->stop(&watchers[0]), 0);
        CHECK_EQ(kind->stop(&watchers[0]), 0);
        CHECK_EQ(evl_is_active(&watchers[0].handle), 0);
        CHECK_EQ(kind->stop(&watchers[7]), 0); /* never started */
        turn();
        CHECK_TRACE("bc");
        CHECK_EQ(kind->stop(&watchers[1]), 0);
        CHECK_EQ(kind->stop(&watchers[2]), 0);
        CHECK_EQ(evl_loop_alive(&loop), 0); /* the counts are even */
        finish(&loop);
    }
}

TEST(watcher_start_refuses_null_and_closing) {
    FOR_EACH_KIND(kind) {
        begin(kind, 0, NULL);
        CHECK_EQ(kind->start(&watchers[0], NULL), EVL_EINVAL);
        CHECK_EQ(evl_is_active(&watchers[0].handle), 0);
        evl_close(&watchers[0].handle, NULL);
        CHECK_EQ(kind->start(&watchers[0], trace_watcher), EVL_EINVAL);
        CHECK_EQ(evl_is_active(&watchers[0].handle), 0);
        finish(&loop);
        CHECK_TRACE("");
    }
}

static void second_callback(evl_idle_t *idle) {
    (void)idle;
    trace("2");
}

static void first_callback(evl_idle_t *idle) {
    (void)idle;
    trace("1");
}

TEST(watcher_start_while_active_keeps_the_callback) {
    evl_idle_t idle;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_idle_start(&idle, first_callback), 0);
    CHECK_EQ(evl_idle_start(&idle, second_callback), 0);
    turn();
    CHECK_TRACE("1");
    CHECK_EQ(evl_idle_stop(&idle), 0);
    CHECK_EQ(evl_idle_start(&idle, second_callback), 0);
    turn();
    CHECK_TRACE("2");
    finish(&loop);
}

/* ---- Changes from within a pass -------------------------------------------------------------- */

static watcher_t *const a = &watchers[0], *const b = &watchers[1], *const c = &watchers[2],
                        *const d = &watchers[3];

static void stop_self(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b)
        CHECK_EQ(current->stop(b), 0);
}

TEST(watcher_stops_itself) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, stop_self);
        turn();
        turn();
        CHECK_TRACE("abcac");
        finish(&loop);
    }
}

static void stop_all_at_second(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b)
        for (int i = 0; i < 4; i++)
            CHECK_EQ(current->stop(&watchers[i]), 0);
}

TEST(watcher_stops_all_others) {
    FOR_EACH_KIND(kind) {
        begin(kind, 4, stop_all_at_second);
        turn();
        CHECK_TRACE("ab");
        CHECK_EQ(evl_loop_alive(&loop), 0);
        turn();
        CHECK_TRACE("");
        finish(&loop);
    }
}

static void restart_self(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == a && calls++ == 0) {
        CHECK_EQ(current->stop(a), 0);
        CHECK_EQ(current->start(a, restart_self), 0);
    }
}

TEST(watcher_restarted_by_itself_waits_for_the_next_pass) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, restart_self);
        turn();
        CHECK_TRACE("abc");
        turn();
        CHECK_TRACE("bca");
        finish(&loop);
    }
}

static void restart_next(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == a && calls++ == 0) {
        CHECK_EQ(current->stop(b), 0);
        CHECK_EQ(current->start(b, restart_next), 0);
    }
}

TEST(watcher_restarted_by_another_waits_for_the_next_pass) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, restart_next);
        turn();
        CHECK_TRACE("ac");
        turn();
        CHECK_TRACE("acb");
        finish(&loop);
    }
}

static void restart_all_at_second(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b && calls++ == 0)
        for (int i = 2; i >= 0; i--) {
            CHECK_EQ(current->stop(&watchers[i]), 0);
            CHECK_EQ(current->start(&watchers[i], restart_all_at_second), 0);
        }
}

TEST(watcher_all_restarted_in_a_pass) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, restart_all_at_second);
        turn();
        CHECK_TRACE("ab");
        turn();
        CHECK_TRACE("cba");
        finish(&loop);
    }
}

static void start_another(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b && calls++ == 0)
        CHECK_EQ(current->start(d, start_another), 0);
}

TEST(watcher_started_in_a_pass_waits_for_the_next) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, start_another);
        turn();
        CHECK_TRACE("abc");
        turn();
        CHECK_TRACE("abcd");
        finish(&loop);
    }
}

static void start_from_last(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == a && calls < 3) {
        calls++;
        CHECK_EQ(current->start(&watchers[calls], start_from_last), 0);
    }
}

TEST(watcher_started_by_the_only_one_waits_for_the_next_pass) {
    FOR_EACH_KIND(kind) {
        begin(kind, 1, start_from_last);
        turn();
        CHECK_TRACE("a");
        turn();
        CHECK_TRACE("ab");
        turn();
        CHECK_TRACE("abc");
        finish(&loop);
    }
}

static void after_close(evl_handle_t *handle) {
    trace("-");
    trace((const char *)handle->data);
    memset(handle, 0xa5, sizeof(watcher_t)); /* the memory is ours again */
}

static void check_poisoned(const watcher_t *watcher) {
    const unsigned char *bytes = (const unsigned char *)watcher;
    for (size_t i = 0; i < sizeof(*watcher); i++)
        CHECK_EQ(bytes[i], 0xa5);
}

static void close_self(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b) {
        evl_close(&watcher->handle, after_close);
        CHECK_EQ(evl_is_active(&watcher->handle), 0);
        CHECK_EQ(evl_is_closing(&watcher->handle), 1);
    }
}

TEST(watcher_closes_itself) {
    FOR_EACH_KIND(kind) {
        begin(kind, 3, close_self);
        turn();
        turn();
        CHECK_TRACE("abc-bac");
        finish(&loop);
        check_poisoned(b);
    }
}

static void close_neighbours(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b && calls++ == 0) {
        evl_close(&a->handle, after_close);
        evl_close(&c->handle, after_close);
    }
}

TEST(watcher_closes_the_one_before_and_the_one_after) {
    FOR_EACH_KIND(kind) {
        begin(kind, 4, close_neighbours);
        turn();
        turn();
        CHECK(strcmp(trace_text, "abd-a-cbd") == 0 || strcmp(trace_text, "abd-c-abd") == 0);
        trace_reset();
        finish(&loop);
        check_poisoned(a);
        check_poisoned(c);
    }
}

static void close_all_at_second(watcher_t *watcher) {
    trace_watcher(watcher);
    if (watcher == b)
        for (int i = 0; i < 4; i++)
            evl_close(&watchers[i].handle, NULL);
}

TEST(watcher_closes_all) {
    FOR_EACH_KIND(kind) {
        begin(kind, 4, close_all_at_second);
        turn();
        turn();
        CHECK_TRACE("ab");
        finish(&loop);
    }
}

/* Watchers do random things to each other; each pass must hold exactly those that were
 * active at its beginning and still are at their turn, in the order of their starts. */
enum { RANDOM_COUNT = 64 };
static watcher_t random_watchers[RANDOM_COUNT];
static int random_order[1 << 16]; /* starts, in order; -1: no longer */
static size_t random_starts, random_cursor, random_end;
static uint32_t random_state;

static uint32_t random_next(uint32_t bound) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

static void random_stop(int index) {
    CHECK_EQ(current->stop(&random_watchers[index]), 0);
    for (size_t i = 0; i < random_starts; i++)
        if (random_order[i] == index)
            random_order[i] = -1;
}

static void random_call(watcher_t *watcher) {
    int index = (int)(watcher - random_watchers);
    while (random_cursor < random_end && random_order[random_cursor] == -1)
        random_cursor++;
    CHECK_LT(random_cursor, random_end);
    CHECK_EQ(random_order[random_cursor], index);
    random_cursor++;
    for (uint32_t i = random_next(4); i > 0; i--) {
        int other = random_next(4) == 0 ? index : (int)random_next(RANDOM_COUNT);
        int active = evl_is_active(&random_watchers[other].handle);
        if (active && random_next(4) != 0) {
            random_stop(other);
        } else if (!active || random_next(2) == 0) {
            if (active)
                random_stop(other);
            CHECK_EQ(current->start(&random_watchers[other], random_call), 0);
            CHECK_LT(random_starts, sizeof(random_order) / sizeof(random_order[0]));
            random_order[random_starts++] = other;
        }
    }
}

TEST(watcher_random_changes_against_a_model) {
    FOR_EACH_KIND(kind) {
        current = kind;
        random_starts = 0;
        random_state = 12345;
        CHECK_EQ(evl_loop_init(&loop), 0);
        for (int i = 0; i < RANDOM_COUNT; i++) {
            CHECK_EQ(kind->init(&loop, &random_watchers[i]), 0);
            CHECK_EQ(kind->start(&random_watchers[i], random_call), 0);
            random_order[random_starts++] = i;
        }
        for (int pass = 0; pass < 300; pass++) {
            size_t kept = 0;
            for (size_t i = 0; i < random_starts; i++)
                if (random_order[i] != -1)
                    random_order[kept++] = random_order[i];
            random_starts = random_end = kept;
            random_cursor = 0;
            turn();
            while (random_cursor < random_end && random_order[random_cursor] == -1)
                random_cursor++;
            CHECK_EQ(random_cursor, random_end); /* none was left out */
            if (kept == 0)
                break;
        }
        finish(&loop);
    }
}

/* ---- With the loop --------------------------------------------------------------------------- */

static void count_iteration(evl_prepare_t *prepare) {
    if (++calls == 100)
        evl_stop(prepare->loop);
}

static void do_nothing_idle(evl_idle_t *idle) {
    (void)idle;
}

TEST(watcher_idle_keeps_the_loop_from_sleeping) {
    evl_idle_t idle;
    evl_prepare_t prepare;
    evl_timer_t timer;
    calls = 0;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_idle_start(&idle, do_nothing_idle), 0);
    CHECK_EQ(evl_prepare_start(&prepare, count_iteration), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0); /* with a sleep: over the time limit */
    CHECK_EQ(calls, 100);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(evl_idle_stop(&idle), 0);
    CHECK_GT(evl_backend_timeout(&loop), 0);
    finish(&loop);
}

static void stop_idle_before_sleep(evl_idle_t *idle) {
    calls++;
    CHECK_EQ(evl_idle_stop(idle), 0);
}

/* An idle handle that stops itself lets this very iteration sleep in default mode. */
TEST(watcher_idle_stopped_in_its_pass_lets_the_loop_sleep) {
    evl_idle_t idle;
    evl_timer_t timer;
    calls = 0;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = text("t");
    CHECK_EQ(evl_idle_start(&idle, stop_idle_before_sleep), 0);
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 20, 0), 0);
    evl_metrics_t metrics;
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("t");
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    CHECK_LE(metrics.loop_count, 3); /* it did not spin */
    finish(&loop);
}

static void prepare_starts_check(evl_prepare_t *prepare) {
    trace("p");
    CHECK_EQ(check_start(a, trace_watcher), 0);
    CHECK_EQ(evl_prepare_stop(prepare), 0);
}

/* A pass is of one kind: what an earlier phase starts runs in its own phase of this iteration. */
TEST(watcher_started_in_an_earlier_phase_runs_in_this_iteration) {
    evl_prepare_t prepare;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(check_init(&loop, a), 0);
    a->handle.data = text("c");
    CHECK_EQ(evl_prepare_start(&prepare, prepare_starts_check), 0);
    turn();
    CHECK_TRACE("pc");
    finish(&loop);
}

TEST(watcher_start_and_stop_allocate_nothing) {
    FOR_EACH_KIND(kind) {
        begin(kind, 4, trace_watcher);
        size_t allocations = test_alloc_calls();
        for (int i = 0; i < 1000; i++) {
            CHECK_EQ(kind->stop(a), 0);
            CHECK_EQ(kind->start(a, trace_watcher), 0);
            turn();
            trace_reset();
        }
        CHECK_EQ(test_alloc_calls(), allocations);
        finish(&loop);
        trace_reset();
    }
}
