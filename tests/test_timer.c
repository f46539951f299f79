/* Timers: order, due times, restarts, overflow. */
#include "trace.h"

#define MS UINT64_C(1000000)

static evl_loop_t loop;

static void open_loop(void) {
    memset(&loop, 0xa5, sizeof(loop)); /* init relies on nothing */
    CHECK_EQ(evl_loop_init(&loop), 0);
    trace_reset();
}

static void new_timer(evl_timer_t *timer, const char *name) {
    CHECK_EQ(evl_timer_init(&loop, timer), 0);
    timer->data = text(name);
}

static void start_ms(evl_timer_t *timer, uint64_t timeout, uint64_t repeat) {
    CHECK_EQ(evl_timer_start(timer, trace_timer, timeout, repeat), 0);
}

static void start_ns(evl_timer_t *timer, uint64_t timeout) {
    CHECK_EQ(evl_timer_start_ns(timer, trace_timer, timeout, 0), 0);
}

/* ---- Order ----------------------------------------------------------------------------------- */

TEST(timer_order_by_due_time) {
    evl_timer_t a, b, c, d;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    new_timer(&c, "c");
    new_timer(&d, "d");
    start_ms(&a, 4, 0);
    start_ms(&b, 1, 0);
    start_ms(&c, 3, 0);
    start_ms(&d, 2, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("bdca");
    /* The same when all are overdue in one pass. */
    start_ms(&a, 4, 0);
    start_ms(&b, 1, 0);
    start_ms(&c, 3, 0);
    start_ms(&d, 2, 0);
    test_sleep_ms(6);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("bdca");
    finish(&loop);
}

TEST(timer_equal_due_times_run_in_start_order) {
    enum { COUNT = 100 };
    static evl_timer_t timers[COUNT];
    static char names[COUNT][16];
    static char expected[COUNT * 3 + 1];
    open_loop();
    for (int i = 0; i < COUNT; i++) {
        int reversed = COUNT - 1 - i; /* by address the other way round */
        snprintf(names[reversed], sizeof(names[0]), "%02d.", i);
        new_timer(&timers[reversed], names[reversed]);
        start_ms(&timers[reversed], 2, 0);
        memcpy(expected + (size_t)i * 3, names[reversed], 3);
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE(expected);
    finish(&loop);
}

TEST(timer_restarted_with_the_same_timeout_runs_last) {
    evl_timer_t a, b, c;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    new_timer(&c, "c");
    start_ms(&a, 3, 0);
    start_ms(&b, 3, 0);
    start_ms(&c, 3, 0);
    start_ms(&a, 3, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("bca");
    /* Stop and start is a start as well. */
    start_ms(&a, 3, 0);
    start_ms(&b, 3, 0);
    start_ms(&c, 3, 0);
    CHECK_EQ(evl_timer_stop(&b), 0);
    start_ms(&b, 3, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("acb");
    finish(&loop);
}

/* A restart to a later time may be lazy: the heap then holds an entry that is too early. Who started
 * last must still run last among equals, whichever came to the heap first. */
TEST(timer_lazily_restarted_keeps_start_order_among_equals) {
    evl_timer_t a, b, c;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    new_timer(&c, "c");

    /* a is moved to b's time before b starts: a first. */
    start_ms(&a, 1, 0);
    start_ms(&a, 4, 0);
    start_ms(&b, 4, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ab");

    /* a is moved to b's time after b started: b first. */
    start_ms(&a, 1, 0);
    start_ms(&b, 4, 0);
    start_ms(&a, 4, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ba");

    /* Both are moved, in both orders. */
    start_ms(&a, 1, 0);
    start_ms(&b, 2, 0);
    start_ms(&b, 4, 0);
    start_ms(&a, 4, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ba");
    start_ms(&a, 1, 0);
    start_ms(&b, 2, 0);
    start_ms(&a, 4, 0);
    start_ms(&b, 4, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ab");

    /* Later, then earlier again but behind the stale entry, and a third in between. */
    start_ms(&a, 1, 0);
    start_ms(&a, 9, 0);
    start_ms(&b, 3, 0);
    start_ms(&a, 3, 0);
    start_ms(&c, 3, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("bac");

    /* Later and later: the stale entry surfaces once, in front of timers that are due before it. */
    start_ms(&a, 1, 0);
    for (uint64_t ms = 2; ms <= 5; ms++)
        start_ms(&a, ms, 0);
    start_ms(&b, 2, 0);
    start_ms(&c, 5, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("bac");
    finish(&loop);
}

/* A timer that has been moved later must not wake anybody at its old time nor run then. */
TEST(timer_restarted_later_runs_only_at_the_later_time) {
    evl_timer_t a;
    open_loop();
    new_timer(&a, "a");
    start_ms(&a, 1, 0);
    start_ms(&a, 3600000, 0);
    test_sleep_ms(3);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("");
    CHECK_GT(evl_backend_timeout(&loop), 3000000); /* else an embedding loop would spin */
    uint64_t start = evl_hrtime();
    start_ms(&a, 1, 0);
    start_ms(&a, 20, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("a");
    CHECK_GE(evl_hrtime() - start, 20 * MS);
    finish(&loop);
}

/* ---- A naive model --------------------------------------------------------------------------- */

enum { MODEL_TIMERS = 48 };
typedef struct {
    evl_timer_t timer;
    int active, closing;
    uint64_t due; /* relative to the burst's clock reading */
    uint64_t order;
    uint64_t repeat;
} model_t;

static model_t models[MODEL_TIMERS];
static uint64_t model_starts;
static uint32_t random_state = 1;

static uint32_t random_next(uint32_t bound) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

static model_t *model_first(void) {
    model_t *first = NULL;
    for (int i = 0; i < MODEL_TIMERS; i++) {
        model_t *m = &models[i];
        if (m->active && (first == NULL || m->due < first->due ||
                          (m->due == first->due && m->order < first->order)))
            first = m;
    }
    return first;
}

static void model_fired(evl_timer_t *timer) {
    model_t *expected = model_first();
    CHECK(expected != NULL);
    CHECK_EQ((model_t *)(void *)timer - models, expected - models);
    expected->active = 0;
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), expected->repeat != 0);
    if (expected->repeat != 0)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

/* The memory is another timer's from here on. */
static void model_closed(evl_handle_t *handle) {
    model_t *m = (model_t *)(void *)handle;
    memset(&m->timer, 0xa5, sizeof(m->timer));
    CHECK_EQ(evl_timer_init(&loop, &m->timer), 0);
    m->closing = 0;
    m->order = 0;
    m->repeat = 0;
}

static void model_step(void) {
    model_t *m = &models[random_next(MODEL_TIMERS)];
    if (m->closing)
        return;
    if (random_next(64) == 0) {
        evl_close((evl_handle_t *)&m->timer, model_closed);
        m->closing = 1;
        m->active = 0;
        return;
    }
    uint64_t timeout = random_next(24) * UINT64_C(50000); /* up to 1.2 ms, with many ties */
    uint64_t repeat = random_next(3) == 0 ? (1 + random_next(24)) * UINT64_C(50000) : 0;
    switch (random_next(8)) {
    case 0:
    case 1:
        CHECK_EQ(evl_timer_stop(&m->timer), 0);
        m->active = 0;
        break;
    case 2:
        if (m->order == 0) {
            CHECK_EQ(evl_timer_again(&m->timer), EVL_EINVAL);
        } else {
            CHECK_EQ(evl_timer_again(&m->timer), 0);
            if (m->repeat != 0) {
                m->active = 1;
                m->due = m->repeat;
                m->order = ++model_starts;
            }
        }
        break;
    default:
        CHECK_EQ(evl_timer_start_ns(&m->timer, model_fired, timeout, repeat), 0);
        m->active = 1;
        m->due = timeout;
        m->repeat = repeat;
        m->order = ++model_starts;
    }
    CHECK_EQ(evl_is_active((evl_handle_t *)&m->timer), m->active);
}

static evl_timer_t model_driver;
static int model_rounds;

static void model_round(evl_prepare_t *prepare) {
    if (model_first() != NULL)
        return;
    if (model_rounds-- == 0) {
        CHECK_EQ(evl_prepare_stop(prepare), 0);
        CHECK_EQ(evl_timer_stop(&model_driver), 0);
        return;
    }
    /* All starts of one callback count from the same clock reading. */
    int steps = (int)(1 + random_next(198));
    for (int i = 0; i < steps; i++)
        model_step();
}

TEST(timer_random_operations_against_a_model) {
    evl_prepare_t prepare;
    open_loop();
    for (int i = 0; i < MODEL_TIMERS; i++)
        CHECK_EQ(evl_timer_init(&loop, &models[i].timer), 0);
    CHECK_EQ(evl_timer_init(&loop, &model_driver), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    model_rounds = 100; /* of 100 operations on average */
    CHECK_EQ(evl_prepare_start(&prepare, model_round), 0);
    CHECK_EQ(evl_timer_start_ns(&model_driver, trace_timer, 100000, 100000), 0);
    model_driver.data = text("");
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK(model_first() == NULL);
    finish(&loop);
}

static evl_timer_t later;
static uint64_t later_due_at_least, pass_started;

static void busy_past_the_other(evl_timer_t *timer) {
    (void)timer;
    pass_started = evl_now_ns(&loop);
    busy_ns(3 * MS);
    evl_update_time(&loop);
    trace("a");
}

static void trace_later(evl_timer_t *timer) {
    (void)timer;
    trace("b");
}

static void start_both(evl_check_t *check) {
    CHECK_EQ(evl_check_stop(check), 0);
    later_due_at_least = evl_hrtime() + MS;
    CHECK_EQ(evl_timer_start((evl_timer_t *)check->data, busy_past_the_other, 0, 0), 0);
    CHECK_EQ(evl_timer_start(&later, trace_later, 1, 0), 0);
}

/* What falls due while the pass runs waits for the next, also when the cached time is moved on. */
TEST(timer_that_falls_due_during_a_pass_waits_for_the_next) {
    evl_timer_t timer;
    evl_check_t check;
    open_loop();
    new_timer(&timer, "");
    new_timer(&later, "");
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    check.data = &timer;
    CHECK_EQ(evl_check_start(&check, start_both), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), -1);
    if (pass_started < later_due_at_least) /* else the machine was slow: both were due */
        CHECK_STR(trace_text, "a");
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ab");
    finish(&loop);
}

/* Timers that start, stop and restart each other from their callbacks. The due time of each is
 * known within bounds; nothing may run early, twice, after a stop, or clearly out of order. */
enum { WILD_TIMERS = 32, WILD_CALLS = 10000 };
typedef struct {
    evl_timer_t timer;
    int active;
    uint64_t low, high;  /* the due time lies between these */
    uint64_t started_in; /* the pass in which it was started */
} wild_t;
static wild_t wilds[WILD_TIMERS];
static int wild_calls;
static uint64_t wild_pass, wild_clock;

static void wild_fired(evl_timer_t *timer);

static void wild_start(wild_t *w, uint64_t callback_start) {
    uint64_t timeout = random_next(40) * UINT64_C(10000);
    CHECK_EQ(evl_timer_start_ns(&w->timer, wild_fired, timeout, 0), 0);
    w->active = 1;
    w->low = callback_start + timeout;
    w->high = evl_hrtime() + timeout;
    w->started_in = wild_pass;
}

static void wild_fired(evl_timer_t *timer) {
    uint64_t now = evl_hrtime();
    wild_t *self = (wild_t *)(void *)timer;
    if (evl_now_ns(&loop) != wild_clock) { /* the clock is read for each pass */
        wild_clock = evl_now_ns(&loop);
        wild_pass++;
    }
    CHECK(self->active);
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 0);
    CHECK_LE(self->low, now);
    CHECK_LE(self->low, evl_now_ns(&loop));
    CHECK_LT(self->started_in, wild_pass); /* not in the pass that started it */
    self->active = 0;
    for (int i = 0; i < WILD_TIMERS; i++) /* nobody was surely due before it and is still waiting */
        CHECK(!wilds[i].active || wilds[i].started_in >= wild_pass || wilds[i].high >= self->low);
    if (++wild_calls >= WILD_CALLS) {
        for (int i = 0; i < WILD_TIMERS; i++) {
            CHECK_EQ(evl_timer_stop(&wilds[i].timer), 0);
            wilds[i].active = 0;
        }
        return;
    }
    wild_start(self, now);
    for (uint32_t i = random_next(4); i > 0; i--) {
        wild_t *other = &wilds[random_next(WILD_TIMERS)];
        if (random_next(3) == 0 && other != self) {
            CHECK_EQ(evl_timer_stop(&other->timer), 0);
            other->active = 0;
        } else {
            wild_start(other, now);
        }
    }
}

TEST(timer_random_operations_from_callbacks) {
    open_loop();
    wild_pass = 1;
    for (int i = 0; i < WILD_TIMERS; i++)
        CHECK_EQ(evl_timer_init(&loop, &wilds[i].timer), 0);
    wild_start(&wilds[0], evl_hrtime());
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(wild_calls, WILD_CALLS);
    finish(&loop);
}

/* ---- Starting and stopping ------------------------------------------------------------------- */

static void started_inactive(evl_timer_t *timer) {
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 0);
    trace("x");
}

TEST(timer_one_shot_runs_once_and_is_inactive_in_its_callback) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    CHECK_EQ(evl_timer_start(&timer, started_inactive, 1, 0), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    CHECK_TRACE("x");
    finish(&loop);
}

TEST(timer_bad_arguments_change_nothing) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, NULL, 1, 0), EVL_EINVAL);
    CHECK_EQ(evl_timer_start_ns(&timer, NULL, 1, 0), EVL_EINVAL);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    CHECK_EQ(evl_timer_again(&timer), EVL_EINVAL); /* never started */
    start_ms(&timer, 2, 0);
    CHECK_EQ(evl_timer_start(&timer, NULL, 3600000, 5), EVL_EINVAL);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 1); /* as before */
    CHECK_EQ(evl_timer_get_repeat(&timer), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("t");
    evl_close((evl_handle_t *)&timer, NULL);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 0, 0), EVL_EINVAL);
    CHECK_EQ(evl_timer_start_ns(&timer, never_timer, 0, 0), EVL_EINVAL);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    finish(&loop);
}

TEST(timer_again_does_nothing_to_a_closing_timer) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, never_timer, 1, 1), 0);
    evl_close((evl_handle_t *)&timer, NULL);
    evl_timer_again(&timer);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    CHECK_EQ(evl_timer_stop(&timer), 0);
    test_sleep_ms(2);
    finish(&loop);
}

TEST(timer_stop_is_idempotent) {
    evl_timer_t timer, other;
    open_loop();
    new_timer(&timer, "t");
    new_timer(&other, "o");
    CHECK_EQ(evl_timer_stop(&timer), 0); /* never started */
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 1, 1), 0);
    start_ms(&other, 3, 0);
    CHECK_EQ(evl_timer_stop(&timer), 0);
    CHECK_EQ(evl_timer_stop(&timer), 0);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("o");
    finish(&loop);
}

static evl_timer_t *victim;

static void stop_victim(evl_timer_t *timer) {
    trace_timer(timer);
    CHECK_EQ(evl_timer_stop(victim), 0);
}

static void restart_victim(evl_timer_t *timer) {
    trace_timer(timer);
    start_ms(victim, 2, 0);
}

static void restart_victim_zero(evl_timer_t *timer) {
    trace_timer(timer);
    trace_task(&loop, text("("));
    start_ms(victim, 0, 0);
    trace_task(&loop, text(")"));
}

static void close_victim(evl_timer_t *timer) {
    trace_timer(timer);
    evl_close((evl_handle_t *)victim, trace_close);
}

static void count_pass(evl_prepare_t *prepare) {
    (void)prepare;
    trace("|");
}

/* Three timers due in one pass; the first does something to the last. */
static void three_due(evl_timer_cb first, const char *expected) {
    evl_timer_t a, b, c;
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, count_pass), 0);
    evl_unref((evl_handle_t *)&prepare);
    new_timer(&a, "a");
    new_timer(&b, "b");
    new_timer(&c, "c");
    victim = &c;
    CHECK_EQ(evl_timer_start(&a, first, 1, 0), 0);
    start_ms(&b, 1, 0);
    start_ms(&c, 1, 0);
    test_sleep_ms(2);
    while (evl_run(&loop, EVL_RUN_ONCE) != 0)
        continue;
    CHECK_TRACE(expected);
    finish(&loop);
}

TEST(timer_stopped_in_anothers_callback_does_not_run) {
    three_due(stop_victim, "|ab");
}

TEST(timer_restarted_in_anothers_callback_runs_at_the_new_time) {
    three_due(restart_victim, "|ab|c");
}

TEST(timer_restarted_with_0_in_anothers_callback_waits_for_the_next_pass) {
    three_due(restart_victim_zero, "|a()b|c");
}

TEST(timer_closed_in_anothers_callback_does_not_run) {
    three_due(close_victim, "|ab|c"); /* its close callback, one iteration later */
}

static void close_self(evl_timer_t *timer) {
    trace_timer(timer);
    evl_close((evl_handle_t *)timer, trace_close);
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 0);
}

TEST(timer_closed_in_its_own_callback) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, close_self, 1, 1), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("tt");
    memset(&timer, 0xa5, sizeof(timer));
    finish(&loop);
}

static int calls;

static void stop_after_three(evl_timer_t *timer) {
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 1); /* it is armed again by then */
    if (++calls == 3)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

/* ---- Repeating ------------------------------------------------------------------------------- */

TEST(timer_repeats_until_stopped) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    uint64_t start = evl_hrtime();
    CHECK_EQ(evl_timer_start(&timer, stop_after_three, 2, 3), 0);
    CHECK_EQ(evl_timer_get_repeat(&timer), 3);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 3);
    CHECK_GE(evl_hrtime() - start, 8 * MS);
    finish(&loop);
}

static uint64_t last_pass_ns;

static void repeat_not_early(evl_timer_t *timer) {
    uint64_t now = evl_now_ns(&loop);
    if (calls > 0)
        CHECK_GE(now - last_pass_ns, MS); /* counted from the pass that ran it */
    last_pass_ns = now;
    if (calls == 3)
        busy_ns(4 * MS); /* late: it does not catch up */
    if (++calls == 10)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

TEST(timer_repeat_counts_from_the_pass_and_does_not_catch_up) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, repeat_not_early, 0, 1), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 10);
    finish(&loop);
}

TEST(timer_repeat_of_less_than_a_millisecond) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    uint64_t start = evl_hrtime();
    CHECK_EQ(evl_timer_start_ns(&timer, stop_after_three, 0, 300000), 0);
    CHECK_EQ(evl_timer_get_repeat(&timer), 0); /* whole milliseconds */
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 3);
    CHECK_GE(evl_hrtime() - start, 600000);
    calls = 2;
    CHECK_EQ(evl_timer_again(&timer), 0); /* it does repeat */
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 3);
    finish(&loop);
}

static void set_repeat_late(evl_timer_t *timer) {
    calls++;
    if (calls == 1)
        evl_timer_set_repeat(timer, 3600000); /* the next run is scheduled already */
    else
        CHECK_EQ(evl_timer_stop(timer), 0);
}

TEST(timer_set_repeat_in_a_callback_takes_effect_after_the_next_run) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, set_repeat_late, 1, 1), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 2);
    CHECK_EQ(evl_timer_get_repeat(&timer), 3600000);
    finish(&loop);
}

static void set_repeat_once(evl_timer_t *timer) {
    calls++;
    evl_timer_set_repeat(timer, 1);
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 0);
}

TEST(timer_set_repeat_on_a_one_shot_in_its_callback_does_not_start_it) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, set_repeat_once, 1, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_timer_again(&timer), 0); /* now it repeats */
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 1);
    finish(&loop);
}

static void clear_repeat(evl_timer_t *timer) {
    calls++;
    evl_timer_set_repeat(timer, 0);
}

TEST(timer_set_repeat_to_0_ends_the_repetition) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, clear_repeat, 1, 1), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 2); /* the second was scheduled already */
    CHECK_EQ(evl_timer_again(&timer), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
    finish(&loop);
}

TEST(timer_again_restarts_with_the_repeat_value) {
    evl_timer_t timer, one_shot;
    open_loop();
    new_timer(&timer, "t");
    new_timer(&one_shot, "o");
    uint64_t start = evl_hrtime();
    start_ms(&timer, 3600000, 5);
    CHECK_EQ(evl_timer_again(&timer), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("t");
    CHECK_GE(evl_hrtime() - start, 5 * MS);
    /* Also when it is stopped, and a one-shot stays as it is. */
    CHECK_EQ(evl_timer_stop(&timer), 0);
    evl_timer_set_repeat(&timer, 1);
    CHECK_EQ(evl_timer_again(&timer), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("t");
    CHECK_EQ(evl_timer_stop(&timer), 0);
    start_ms(&one_shot, 3, 0);
    CHECK_EQ(evl_timer_again(&one_shot), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&one_shot), 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("o");
    CHECK_EQ(evl_timer_again(&one_shot), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&one_shot), 0);
    finish(&loop);
}

static void again_pushes_off(evl_prepare_t *prepare) {
    if (++calls < 20)
        CHECK_EQ(evl_timer_again(victim), 0); /* as a watchdog is fed */
    else
        CHECK_EQ(evl_prepare_stop(prepare), 0);
}

TEST(timer_again_pushes_the_due_time_off) {
    evl_timer_t watchdog, beat;
    evl_prepare_t prepare;
    open_loop();
    new_timer(&watchdog, "w");
    new_timer(&beat, "");
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    victim = &watchdog;
    start_ms(&watchdog, 400, 400);
    start_ms(&beat, 1, 1);
    CHECK_EQ(evl_prepare_start(&prepare, again_pushes_off), 0);
    uint64_t start = evl_hrtime();
    while (calls < 20)
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    if (evl_hrtime() - start < 400 * MS)
        CHECK_TRACE("");
    finish(&loop);
}

TEST(timer_due_in) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_get_due_in(&timer), 0); /* never started */
    evl_update_time(&loop);
    start_ms(&timer, 1000, 0);
    CHECK_GE(evl_timer_get_due_in(&timer), 999);
    CHECK_LE(evl_timer_get_due_in(&timer), 1000 + (evl_hrtime() - evl_now_ns(&loop)) / MS + 1);
    test_sleep_ms(10);
    evl_update_time(&loop);
    CHECK_LE(evl_timer_get_due_in(&timer), 990);
    CHECK_EQ(evl_timer_stop(&timer), 0);
    CHECK_EQ(evl_timer_get_due_in(&timer), 0); /* stopped */
    start_ms(&timer, 1, 0);
    test_sleep_ms(3);
    evl_update_time(&loop);
    CHECK_EQ(evl_timer_get_due_in(&timer), 0); /* due */
    finish(&loop);
}

/* ---- Never early ----------------------------------------------------------------------------- */

enum { EARLY_TIMERS = 100 };
typedef struct {
    evl_timer_t timer;
    uint64_t started_ns, timeout_ns;
} early_t;
static early_t earlies[EARLY_TIMERS];
static int early_fired;

static void check_not_early(evl_timer_t *timer) {
    const early_t *early = (const early_t *)(const void *)timer;
    uint64_t now = evl_hrtime();
    CHECK_GE(now - early->started_ns, early->timeout_ns);
    CHECK_GE(evl_now_ns(&loop) - early->started_ns, early->timeout_ns);
    early_fired++;
}

static void early_start(early_t *early, uint64_t timeout_ns, int in_ms) {
    if (in_ms)
        timeout_ns = timeout_ns / MS * MS;
    early->timeout_ns = timeout_ns;
    early->started_ns = evl_hrtime();
    if (in_ms)
        CHECK_EQ(evl_timer_start(&early->timer, check_not_early, timeout_ns / MS, 0), 0);
    else
        CHECK_EQ(evl_timer_start_ns(&early->timer, check_not_early, timeout_ns, 0), 0);
}

static int early_next;

/* One start per callback, so that each counts from a clock of its own. */
static void early_step(evl_timer_t *timer) {
    uint32_t busy = random_next(4);
    if (busy != 0)
        busy_ns(busy * UINT64_C(300000));
    early_start(&earlies[early_next], random_next(12000000), early_next % 2);
    if (++early_next == EARLY_TIMERS)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

TEST(timer_never_early) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    for (int i = 0; i < EARLY_TIMERS; i++)
        CHECK_EQ(evl_timer_init(&loop, &earlies[i].timer), 0);
    CHECK_EQ(evl_timer_start_ns(&timer, early_step, 500000, 500000), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, EARLY_TIMERS);
    finish(&loop);
}

static void busy_then_start(evl_timer_t *timer) {
    (void)timer;
    busy_ns(5 * MS); /* the cached time is now 5 ms old: libuv's timer would be early by that */
    early_start(&earlies[0], 6 * MS, 1);
}

TEST(timer_never_early_after_a_busy_callback) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_init(&loop, &earlies[0].timer), 0);
    CHECK_EQ(evl_timer_start(&timer, busy_then_start, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, 1);
    finish(&loop);
}

static void busy_task(evl_loop_t *l, void *arg) {
    (void)l;
    busy_ns(3 * MS);
    early_start((early_t *)arg, 4 * MS, 1);
}

static void busy_checkpoint(evl_loop_t *l, void *arg) {
    evl_set_microtask_checkpoint(l, NULL, NULL);
    busy_task(l, arg);
}

static void start_then_tasks(evl_timer_t *timer) {
    (void)timer;
    early_start(&earlies[0], 1 * MS, 0);
    CHECK_EQ(evl_next_tick(&loop, busy_task, &earlies[1]), 0);
    CHECK_EQ(evl_next_tick(&loop, busy_task, &earlies[2]), 0);
    CHECK_EQ(evl_queue_microtask(&loop, busy_task, &earlies[3]), 0);
    CHECK_EQ(evl_queue_microtask(&loop, busy_task, &earlies[4]), 0);
    evl_set_microtask_checkpoint(&loop, busy_checkpoint, &earlies[5]);
}

/* Each tick and microtask is a callback of its own: the clock that the one before it has read is not
 * its own. */
TEST(timer_never_early_after_a_busy_tick) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    for (int i = 0; i < 6; i++)
        CHECK_EQ(evl_timer_init(&loop, &earlies[i].timer), 0);
    CHECK_EQ(evl_timer_start(&timer, start_then_tasks, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, 6);
    finish(&loop);
}

/* Outside of callbacks the clock is read at the first start after init, and after each run. */
TEST(timer_never_early_outside_of_callbacks) {
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &earlies[0].timer), 0);
    test_sleep_ms(20); /* the time since init must not count */
    early_start(&earlies[0], 10 * MS, 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, 1);
    test_sleep_ms(20); /* nor the time since the last run */
    early_start(&earlies[0], 10 * MS, 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, 2);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 0); /* a run that has nothing to do is one, too */
    test_sleep_ms(20);
    early_start(&earlies[0], 10 * MS, 1);
    CHECK_EQ(evl_run_for(&loop, 0) != 0, 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(early_fired, 3);
    finish(&loop);
}

static evl_timer_t burst_a, burst_b;
static int burst_update;

/* a is started first, with 10 ms; b after 4 busy ms, with 8 ms. From one clock reading b is due
 * before a; from two, after it. */
static void burst(void) {
    start_ms(&burst_a, 10, 0);
    busy_ns(4 * MS);
    if (burst_update)
        evl_update_time(&loop);
    start_ms(&burst_b, 8, 0);
}

static void burst_timer(evl_timer_t *timer) {
    (void)timer;
    burst();
}

static void burst_begin(void) {
    open_loop();
    new_timer(&burst_a, "a");
    new_timer(&burst_b, "b");
}

TEST(timer_starts_of_one_callback_share_a_clock_reading) {
    evl_timer_t timer;
    burst_begin();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, burst_timer, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ba");
    burst(); /* outside of callbacks */
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ba");
    finish(&loop);
}

TEST(timer_starts_after_update_time_read_the_clock_anew) {
    evl_timer_t timer;
    burst_begin();
    burst_update = 1;
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, burst_timer, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ab");
    burst();
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ab");
    finish(&loop);
}

static void burst_equal_timer(evl_timer_t *timer) {
    (void)timer;
    start_ms(&burst_a, 2, 0);
    busy_ns(MS / 2);
    start_ms(&burst_b, 2, 0);
    busy_ns(MS / 2);
    start_ms(&burst_a, 2, 0);
}

/* Equal due times, though the starts were a millisecond apart: only the order of starts counts. */
TEST(timer_starts_of_one_callback_have_equal_due_times) {
    evl_timer_t timer;
    burst_begin();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, burst_equal_timer, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("ba");
    finish(&loop);
}

/* ---- Short sleeps ---------------------------------------------------------------------------- */

static uint64_t short_start, short_end;
static int short_calls, short_quick;

static void short_fired(evl_timer_t *timer) {
    short_end = evl_hrtime();
    CHECK_GE(short_end - short_start, 200000); /* never early */
    short_quick += short_end - short_start < 1000000;
    if (++short_calls == 50)
        return;
    short_start = evl_hrtime();
    CHECK_EQ(evl_timer_start_ns(timer, short_fired, 200000, 0), 0);
}

TEST(timer_sleeps_for_less_than_a_millisecond) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    short_start = evl_hrtime();
    CHECK_EQ(evl_timer_start_ns(&timer, short_fired, 200000, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(short_calls, 50);
    if (OS_SLEEPS_IN_MS && short_quick == 0)
        SKIP("this system sleeps for whole milliseconds");
    /* A clock of whole milliseconds would never do it within one. */
    if (!test_slow())
        CHECK_GE(short_quick, 1);
    finish(&loop);
}

/* Waiting for a timer sleeps: it does not spin, also not for the part below a millisecond. */
TEST(timer_sleeps_once) {
    evl_timer_t timer;
    evl_metrics_t metrics;
    open_loop();
    new_timer(&timer, "t");
    start_ns(&timer, 20 * MS + 700000);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("t");
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    CHECK_LE(metrics.loop_count, 2);
    finish(&loop);
}

TEST(timer_run_once_returns_with_the_timer_run) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    for (int i = 0; i < 20; i++) {
        start_ns(&timer, 400000 + (uint64_t)i * 77777);
        CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
        CHECK_TRACE("t");
    }
    start_ms(&timer, 0, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("t");
    finish(&loop);
}

/* ---- Zero ------------------------------------------------------------------------------------ */

static int zero_limit;

static void zero_again(evl_timer_t *timer) {
    trace_timer(timer);
    if (--zero_limit > 0)
        CHECK_EQ(evl_timer_start(timer, zero_again, 0, 0), 0);
}

static void trace_idle(evl_idle_t *idle) {
    (void)idle;
    trace("i");
}

TEST(timer_started_with_0_by_itself_waits_for_the_next_pass) {
    evl_timer_t a, b;
    evl_check_t check;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, trace_check), 0);
    evl_unref((evl_handle_t *)&check);
    zero_limit = 7;
    CHECK_EQ(evl_timer_start(&a, zero_again, 0, 0), 0);
    CHECK_EQ(evl_timer_start(&b, zero_again, 0, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("abcabcabcab");
    finish(&loop);
}

static void repeat_tiny(evl_timer_t *timer) {
    trace_timer(timer);
    busy_ns(10000);
    if (--zero_limit == 0)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

/* Due again before its own callback is over: still once a pass. */
TEST(timer_repeating_faster_than_its_callback_runs_once_a_pass) {
    evl_timer_t a;
    evl_idle_t idle;
    evl_check_t check;
    open_loop();
    new_timer(&a, "a");
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_idle_start(&idle, trace_idle), 0);
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, trace_check), 0);
    evl_unref((evl_handle_t *)&check);
    evl_unref((evl_handle_t *)&idle);
    zero_limit = 4;
    CHECK_EQ(evl_timer_start_ns(&a, repeat_tiny, 0, 1), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("aicaicaica");
    finish(&loop);
}

static void start_zero_from_check(evl_check_t *check) {
    trace("c");
    CHECK_EQ(evl_check_stop(check), 0);
    start_ms(victim, 0, 0);
}

TEST(timer_started_with_0_by_a_check_runs_in_the_same_iteration) {
    evl_timer_t timer;
    evl_check_t check;
    open_loop();
    new_timer(&timer, "t");
    victim = &timer;
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, start_zero_from_check), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("ct");
    finish(&loop);
}

/* Timers that restart themselves at once leave the other phases their turn. */
static int poll_calls;

static void count_async(evl_async_t *async) {
    if (++poll_calls < 20)
        CHECK_EQ(evl_async_send(async), 0);
}

static void zero_forever(evl_timer_t *timer) {
    CHECK_EQ(evl_timer_start(timer, zero_forever, 0, 0), 0);
    if (poll_calls == 20)
        evl_stop(&loop);
}

TEST(timer_started_with_0_by_itself_starves_nothing) {
    enum { COUNT = 10 };
    evl_timer_t timers[COUNT];
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, count_async), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    for (int i = 0; i < COUNT; i++) {
        new_timer(&timers[i], "");
        CHECK_EQ(evl_timer_start(&timers[i], zero_forever, 0, 0), 0);
    }
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(poll_calls, 20);
    finish(&loop);
}

/* ---- Overflow -------------------------------------------------------------------------------- */

static void stop_all_timers(evl_handle_t *handle, void *arg) {
    (void)arg;
    CHECK_EQ(evl_is_active(handle), 1);
    CHECK_EQ(evl_timer_stop((evl_timer_t *)handle), 0);
}

TEST(timer_huge_timeouts_saturate) {
    static const uint64_t huge_ms[] = {UINT64_MAX,
                                       UINT64_MAX - 1,
                                       UINT64_MAX / 2,
                                       UINT64_MAX / 1000000,
                                       UINT64_MAX / 1000000 + 1,
                                       UINT64_C(1) << 62,
                                       UINT64_C(18446744073710)};
    static const uint64_t huge_ns[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 1000000000,
                                       UINT64_MAX / 2 + 1, UINT64_C(1) << 63};
    enum { MS_COUNT = sizeof(huge_ms) / sizeof(huge_ms[0]) };
    enum { NS_COUNT = sizeof(huge_ns) / sizeof(huge_ns[0]) };
    evl_timer_t timers[12], tiny; /* 7 and 5 */
    open_loop();
    for (int i = 0; i < MS_COUNT; i++) {
        new_timer(&timers[i], "");
        CHECK_EQ(evl_timer_start(&timers[i], never_timer, huge_ms[i], 0), 0);
        CHECK_GE(evl_timer_get_due_in(&timers[i]), UINT64_C(1000000000000));
    }
    for (int i = 0; i < NS_COUNT; i++) {
        new_timer(&timers[MS_COUNT + i], "");
        CHECK_EQ(evl_timer_start_ns(&timers[MS_COUNT + i], never_timer, huge_ns[i], 0), 0);
        CHECK_GE(evl_timer_get_due_in(&timers[MS_COUNT + i]), UINT64_C(1000000000000));
    }
    for (int i = 3; i < MS_COUNT; i++) /* those that fit are told as they were given */
        CHECK_EQ(evl_timer_get_due_in(&timers[i]), huge_ms[i]);
    CHECK_NE(evl_backend_timeout(&loop), 0); /* else the loop would spin */
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    new_timer(&tiny, "t");
    start_ms(&tiny, 2, 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0); /* sleeps, and for the tiny one only */
    CHECK_TRACE("t");
    evl_close((evl_handle_t *)&tiny, NULL);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    evl_walk(&loop, stop_all_timers, NULL);
    finish(&loop);
}

static void *post_stop_soon(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_post_stop((evl_loop_t *)arg), 0);
    return NULL;
}

/* With nothing but a timer at the end of time the loop sleeps; it neither spins nor fails. */
TEST(timer_huge_timeout_lets_the_loop_sleep) {
    static const uint64_t huge[] = {UINT64_MAX, UINT64_C(5000000000) * MS,
                                    UINT64_C(2147483648) * MS};
    for (int i = 0; i < 3; i++) {
        evl_timer_t timer;
        evl_metrics_t metrics;
        os_thread_t thread;
        open_loop();
        new_timer(&timer, "");
        CHECK_EQ(evl_timer_start_ns(&timer, never_timer, huge[i], 0), 0);
        start_thread(&thread, post_stop_soon, &loop);
        CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        join_thread(thread);
        CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
        CHECK_LE(metrics.loop_count, 2);
        finish(&loop);
    }
}

TEST(timer_huge_repeat_saturates) {
    evl_timer_t a, b;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    start_ms(&a, 0, UINT64_MAX);
    CHECK_EQ(evl_timer_get_repeat(&a), UINT64_MAX / 2);
    CHECK_EQ(evl_timer_start_ns(&b, trace_timer, 0, UINT64_MAX), 0);
    CHECK_EQ(evl_timer_get_repeat(&b), UINT64_MAX / 2 / MS);
    for (int i = 0; i < 10; i++)
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("ab");
    CHECK_EQ(evl_is_active((evl_handle_t *)&a), 1);
    evl_timer_set_repeat(&a, UINT64_MAX / 3);
    CHECK_EQ(evl_timer_get_repeat(&a), UINT64_MAX / 3);
    CHECK_EQ(evl_timer_again(&a), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("");
    finish(&loop);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

TEST(timer_churn_allocates_nothing_once_warm) {
    enum { COUNT = 200 };
    static evl_timer_t timers[COUNT];
    open_loop();
    for (int i = 0; i < COUNT; i++) {
        new_timer(&timers[i], "");
        start_ms(&timers[i], 1000, 0);
    }
    size_t allocations = test_alloc_calls();
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < COUNT; i++) {
            evl_timer_t *timer = &timers[random_next(COUNT)];
            if (random_next(3) == 0)
                CHECK_EQ(evl_timer_stop(timer), 0);
            else
                CHECK_EQ(evl_timer_start_ns(timer, trace_timer, random_next(100000), 0), 0);
        }
        evl_run(&loop, EVL_RUN_NOWAIT);
    }
    CHECK_EQ(test_alloc_calls(), allocations);
    finish(&loop);
}

/* Restarting later must not pile up entries: memory stays flat. */
TEST(timer_restarted_a_million_times_keeps_its_memory) {
    evl_timer_t timer, other;
    open_loop();
    new_timer(&timer, "t");
    new_timer(&other, "o");
    start_ms(&other, 3600000, 0);
    start_ms(&timer, 3600000, 0);
    size_t allocations = test_alloc_calls();
    for (int i = 0; i < 1000000; i++)
        start_ns(&timer, 3600000 * MS + (uint64_t)i);
    CHECK_EQ(test_alloc_calls(), allocations);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("");
    finish(&loop);
}

TEST(timer_start_fails_without_memory) {
    evl_timer_t timer, other;
    open_loop();
    new_timer(&timer, "t");
    new_timer(&other, "o");
    test_alloc_fail(1, -1);
    int result = evl_timer_start(&timer, trace_timer, 1, 0);
    test_alloc_fail(0, 0);
    if (result != 0) { /* else no memory was needed */
        CHECK_EQ(result, EVL_ENOMEM);
        CHECK_EQ(evl_is_active((evl_handle_t *)&timer), 0);
        CHECK_EQ(evl_loop_alive(&loop), 0);
        start_ms(&timer, 1, 0);
    }
    start_ms(&other, 2, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("to");
    finish(&loop);
}

/* The heap grows while allocations fail now and then: each timer either runs or was refused. */
TEST(timer_heap_growth_survives_failing_allocations) {
    enum { COUNT = 2000 };
    static evl_timer_t timers[COUNT];
    int started = 0;
    open_loop();
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(evl_timer_init(&loop, &timers[i]), 0);
        timers[i].data = text("t");
        test_alloc_fail(1, 1);
        int result = evl_timer_start_ns(&timers[i], trace_timer, (uint64_t)random_next(1000), 0);
        test_alloc_fail(0, 0);
        CHECK(result == 0 || result == EVL_ENOMEM);
        CHECK_EQ(evl_is_active((evl_handle_t *)&timers[i]), result == 0);
        if (result != 0)
            CHECK_EQ(evl_timer_start_ns(&timers[i], trace_timer, (uint64_t)random_next(1000), 0),
                     0);
        started++;
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(trace_length, started);
    finish(&loop);
}

/* A burst of timers with many equals, all due in one pass, in which each callback stops one, restarts
 * one, closes one: what is left runs in the order of its last start. */
enum { BURST = 3000 };
typedef struct {
    evl_timer_t timer;
    uint64_t due, order; /* order 0: must not run in this pass */
} burst_t;

static burst_t bursting[BURST];
static uint64_t burst_due, burst_order, burst_starts;
static int burst_fired, burst_started;

static void burst_again(evl_timer_t *timer) {
    (void)timer;
    burst_started--;
}

static void burst_fire(evl_timer_t *timer) {
    burst_t *fired = (burst_t *)timer, *other;
    CHECK(fired->order > 0);
    CHECK(fired->due > burst_due || (fired->due == burst_due && fired->order > burst_order));
    CHECK_EQ(evl_is_active((evl_handle_t *)timer), 0);
    burst_due = fired->due;
    burst_order = fired->order;
    fired->order = 0;
    burst_fired++;
    other = &bursting[random_next(BURST)];
    if (evl_is_closing((evl_handle_t *)other) || other->timer.data != NULL)
        return;
    other->order = 0;
    other->timer.data = text("touched");
    if (burst_fired % 3 == 0) {
        evl_close((evl_handle_t *)other, NULL);
    } else if (burst_fired % 3 == 1) {
        CHECK_EQ(evl_timer_stop(&other->timer), 0);
    } else {
        CHECK_EQ(evl_timer_start_ns(&other->timer, burst_again, random_next(1000), 0), 0);
        burst_started++;
    }
}

/* `late` of them come due only after the pass. */
static void run_burst(int late) {
    int live = 0, due = BURST - late;
    open_loop();
    for (int i = 0; i < BURST; i++) {
        burst_t *b = &bursting[i];
        CHECK_EQ(evl_timer_init(&loop, &b->timer), 0);
        b->timer.data = NULL;
        b->due = i < due ? 1000 * (uint64_t)random_next(50) : 3600000 * MS;
        b->order = i < due ? ++burst_starts : 0;
        CHECK_EQ(evl_timer_start_ns(&b->timer, burst_fire, b->due, 0), 0);
    }
    for (int i = 0; i < due; i += 7) { /* lazily later: some still due, some not */
        bursting[i].due += i % 2 == 0 ? 30000 : 3600000 * MS;
        bursting[i].order = i % 2 == 0 ? ++burst_starts : 0;
        CHECK_EQ(evl_timer_start_ns(&bursting[i].timer, burst_fire, bursting[i].due, 0), 0);
    }
    burst_due = burst_order = 0;
    burst_fired = burst_started = 0;
    test_sleep_ms(2);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    test_sleep_ms(2);
    evl_run(&loop, EVL_RUN_NOWAIT);
    CHECK_EQ(burst_started, 0);
    for (int i = 0; i < BURST; i++) {
        CHECK_EQ(bursting[i].order, 0);
        live += evl_is_active((evl_handle_t *)&bursting[i].timer);
        if (!evl_is_closing((evl_handle_t *)&bursting[i].timer))
            evl_close((evl_handle_t *)&bursting[i].timer, NULL);
    }
    CHECK_GT(burst_fired, 0);
    CHECK_LE(live, late + due / 14 + 1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    finish(&loop);
}

TEST(timer_burst_all_due) {
    run_burst(0);
}

TEST(timer_burst_half_due) {
    run_burst(BURST / 2);
}

TEST(timer_burst_few_due) {
    run_burst(BURST - 100);
}

/* A timer of the pass that is under way is restarted: it needs room in the heap, which may fail, and
 * then it still runs. */
static evl_timer_t refused[17];
static int refused_ran, refused_results[2];

static void refused_fire(evl_timer_t *timer) {
    refused_ran++;
    if (timer != &refused[0])
        return;
    test_alloc_fail(1, 1);
    for (int i = 0; i < 2; i++) /* one place is free: this timer's own */
        refused_results[i] = evl_timer_start(&refused[1 + i], refused_fire, 3600000, 0);
    test_alloc_fail(0, 0);
}

TEST(timer_restart_within_a_pass_without_memory) {
    open_loop();
    for (int i = 0; i < 16; i++) { /* what the heap holds at first */
        CHECK_EQ(evl_timer_init(&loop, &refused[i]), 0);
        CHECK_EQ(evl_timer_start_ns(&refused[i], refused_fire, 0, 0), 0);
    }
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(refused_results[0], 0);
    CHECK_EQ(refused_results[1], EVL_ENOMEM);
    CHECK_EQ(refused_ran, 15);
    CHECK_EQ(evl_is_active((evl_handle_t *)&refused[1]), 1);
    CHECK_EQ(evl_is_active((evl_handle_t *)&refused[2]), 0);
    CHECK_EQ(evl_timer_stop(&refused[1]), 0);
    for (int i = 0; i < 16; i++)
        evl_close((evl_handle_t *)&refused[i], NULL);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    finish(&loop);
}

/* A pass that evl_run_for leaves halfway goes on with what it took, but for what was stopped since. */
TEST(timer_pass_resumes_without_what_was_stopped) {
    evl_timer_t timers[4];
    const char *names[4] = {"a", "b", "c", "d"};
    open_loop();
    for (int i = 0; i < 4; i++) {
        new_timer(&timers[i], names[i]);
        start_ns(&timers[i], (uint64_t)i);
    }
    while (trace_length == 0) /* each callback spends a budget of one nanosecond */
        CHECK_NE(evl_run_for(&loop, 1), 0);
    CHECK_TRACE("a");
    CHECK_EQ(evl_timer_stop(&timers[1]), 0);
    start_ms(&timers[2], 3600000, 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("d");
    for (int i = 0; i < 4; i++)
        evl_close((evl_handle_t *)&timers[i], NULL);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    finish(&loop);
}

/* ---- Many ------------------------------------------------------------------------------------ */

static uint64_t many_last;
static int many_fired;

static void many_in_order(evl_timer_t *timer) {
    uint64_t due = (uint64_t)(uintptr_t)timer->data;
    CHECK_GE(due, many_last);
    many_last = due;
    many_fired++;
}

TEST(timer_a_hundred_thousand) {
    enum { COUNT = 100000 };
    evl_timer_t *timers = (evl_timer_t *)malloc(COUNT * sizeof(*timers));
    CHECK(timers != NULL);
    open_loop();
    for (int i = 0; i < COUNT; i++) {
        uint64_t due = random_next(5000000);
        CHECK_EQ(evl_timer_init(&loop, &timers[i]), 0);
        timers[i].data = (void *)(uintptr_t)due;
        CHECK_EQ(evl_timer_start_ns(&timers[i], many_in_order, due, 0), 0);
    }
    int stopped = 0;
    for (int i = 0; i < COUNT; i += 3, stopped++)
        CHECK_EQ(evl_timer_stop(&timers[i]), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(many_fired, COUNT - stopped);
    finish(&loop);
    free(timers);
}
