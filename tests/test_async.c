/* Async handles, posts, and what wakes a loop from other threads and from signal handlers. */
#include "trace.h"

#include <signal.h>

static evl_loop_t loop;
static int calls;

static void open_loop(void) {
    memset(&loop, 0xa5, sizeof(loop)); /* init relies on nothing */
    CHECK_EQ(evl_loop_init(&loop), 0);
    trace_reset();
}

static void run_all(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
}

static void never_async(evl_async_t *async) {
    (void)async;
    test_fail(__FILE__, __LINE__, "this async must not run");
}

static void count_async(evl_async_t *async) {
    (void)async;
    calls++;
}

static void close_async(evl_async_t *async) {
    calls++;
    evl_close((evl_handle_t *)async, NULL);
}

static void trace_async(evl_async_t *async) {
    trace((const char *)async->data);
}

static void mark_iteration(evl_prepare_t *prepare) {
    (void)prepare;
    trace("|");
}

/* ---- On one thread --------------------------------------------------------------------------- */

TEST(async_sends_are_coalesced) {
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, count_async), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(evl_async_send(&async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(calls, 1);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(calls, 2);
    finish(&loop);
}

TEST(async_is_active_from_the_start) {
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, never_async), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&async), 1);
    CHECK_EQ(evl_has_ref((evl_handle_t *)&async), 1);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_backend_timeout(&loop), -1);
    evl_unref((evl_handle_t *)&async);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    finish(&loop);
}

static int sends_left;

static void send_again(evl_async_t *async) {
    trace("a");
    if (--sends_left > 0)
        CHECK_EQ(evl_async_send(async), 0);
    else
        evl_close((evl_handle_t *)async, NULL);
}

/* One send from its own callback is one more callback, in the next iteration. */
TEST(async_sent_in_its_own_callback) {
    evl_async_t async;
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, mark_iteration), 0);
    evl_unref((evl_handle_t *)&prepare);
    CHECK_EQ(evl_async_init(&loop, &async, send_again), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    sends_left = 4;
    run_all();
    CHECK_TRACE("|a|a|a|a");
    finish(&loop);
}

static evl_async_t first, second, third;

static void send_self_and_close_second(evl_async_t *async) {
    trace("a");
    if (calls++ == 0) {
        CHECK_EQ(evl_async_send(async), 0);
        CHECK_EQ(evl_async_send(&second), 0); /* in the same place as this one's */
        evl_close((evl_handle_t *)&second, NULL);
    }
}

/* Nor does it come sooner because the close of another has to look through what was sent. */
TEST(async_sent_in_its_own_callback_waits_whatever_is_closed) {
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, mark_iteration), 0);
    CHECK_EQ(evl_async_init(&loop, &first, send_self_and_close_second), 0);
    CHECK_EQ(evl_async_init(&loop, &second, never_async), 0);
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("|a|a");
    finish(&loop);
}

static void send_second_and_close_self(evl_async_t *async) {
    trace("b");
    CHECK_EQ(evl_async_send(&second), 0);
    CHECK_EQ(evl_async_send(async), 0);
    evl_close((evl_handle_t *)async, NULL); /* takes itself out of what was sent, and only itself */
}

TEST(async_closed_by_itself_leaves_the_others_that_were_sent) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, send_second_and_close_self), 0);
    CHECK_EQ(evl_async_init(&loop, &second, trace_async), 0);
    CHECK_EQ(evl_async_init(&loop, &third, trace_async), 0);
    second.data = text("2");
    third.data = text("3");
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_EQ(evl_async_send(&third), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK(strcmp(trace_text, "b32") == 0 || strcmp(trace_text, "b23") == 0);
    finish(&loop);
}

TEST(async_without_callback_only_wakes) {
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0); /* without a wake-up: over the time limit */
    CHECK_EQ(evl_async_send(&async), 0);       /* and again: it can be signalled anew */
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    finish(&loop);
}

static void close_others(evl_async_t *async) {
    trace("1");
    if (async != &first)
        evl_close((evl_handle_t *)&first, NULL);
    if (async != &second)
        evl_close((evl_handle_t *)&second, NULL);
    if (async != &third)
        evl_close((evl_handle_t *)&third, NULL);
}

static void poison(evl_handle_t *handle) {
    memset(handle, 0xa5, sizeof(evl_async_t));
}

static void check_poisoned(const evl_async_t *async) {
    unsigned char expected[sizeof(*async)];
    memset(expected, 0xa5, sizeof(expected));
    CHECK_MEM(async, expected, sizeof(expected));
}

TEST(async_closed_by_another_that_ran_first) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, close_others), 0);
    CHECK_EQ(evl_async_init(&loop, &second, close_others), 0);
    CHECK_EQ(evl_async_init(&loop, &third, close_others), 0);
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_EQ(evl_async_send(&second), 0);
    CHECK_EQ(evl_async_send(&third), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("1"); /* whichever it was, the other two did not run any more */
    finish(&loop);
}

TEST(async_closed_while_signalled) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    CHECK_EQ(evl_async_init(&loop, &second, count_async), 0);
    CHECK_EQ(evl_async_init(&loop, &third, never_async), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_async_send(&first), 0);
        CHECK_EQ(evl_async_send(&second), 0);
        CHECK_EQ(evl_async_send(&third), 0);
    }
    evl_close((evl_handle_t *)&first, poison);
    evl_close((evl_handle_t *)&third, poison);
    CHECK_EQ(evl_is_active((evl_handle_t *)&first), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_async_send(&second), 0);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    }
    CHECK_EQ(calls, 3);
    check_poisoned(&first);
    check_poisoned(&third);
    finish(&loop);
}

static void close_self_poisoned(evl_async_t *async) {
    trace("c");
    CHECK_EQ(evl_async_send(async), 0);
    evl_close((evl_handle_t *)async, poison);
    CHECK_EQ(evl_async_send(async), EVL_EINVAL);
}

TEST(async_closed_in_its_own_callback) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, close_self_poisoned), 0);
    CHECK_EQ(evl_async_init(&loop, &second, count_async), 0);
    CHECK_EQ(evl_async_send(&first), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_async_send(&second), 0);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    }
    CHECK_TRACE("c");
    CHECK_EQ(calls, 3);
    check_poisoned(&first);
    finish(&loop);
}

TEST(async_send_after_close_is_refused) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    evl_close((evl_handle_t *)&first, NULL);
    CHECK_EQ(evl_async_send(&first), EVL_EINVAL);
    run_all();
    finish(&loop);
}

TEST(async_memory_may_be_used_again) {
    open_loop();
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(evl_async_init(&loop, &first, close_async), 0);
        CHECK_EQ(evl_async_send(&first), 0);
        run_all();
        CHECK_EQ(calls, i + 1);
    }
    finish(&loop);
}

static evl_async_t many[10000];
static evl_async_t *last_called;

static void remember_async(evl_async_t *async) {
    last_called = async;
    calls++;
}

TEST(async_only_what_was_signalled_is_called) {
    open_loop();
    for (int i = 0; i < 10000; i++)
        CHECK_EQ(evl_async_init(&loop, &many[i], remember_async), 0);
    for (int i = 0; i < 10000; i += 777) {
        calls = 0;
        CHECK_EQ(evl_async_send(&many[i]), 0);
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
        CHECK_EQ(calls, 1);
        CHECK_PTR(last_called, &many[i]);
    }
    /* All at once: each once. */
    calls = 0;
    for (int i = 0; i < 10000; i++)
        CHECK_EQ(evl_async_send(&many[i]), 0);
    while (calls < 10000)
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(calls, 10000);
    finish(&loop);
}

/* The best of several tries: other programs are at work, too. */
static uint64_t time_dispatches(evl_async_t *async) {
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < 8; round++) {
        uint64_t start = test_ns();
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(evl_async_send(async), 0);
            CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        }
        uint64_t spent = test_ns() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

/* A hundred thousand that are not signalled cost nothing. */
TEST(async_dispatch_does_not_depend_on_how_many_exist) {
    enum { COUNT = 100000 };
    evl_async_t *asyncs = (evl_async_t *)malloc(COUNT * sizeof(*asyncs));
    CHECK(asyncs != NULL);
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &asyncs[0], count_async), 0);
    uint64_t alone = time_dispatches(&asyncs[0]);
    for (int i = 1; i < COUNT; i++)
        CHECK_EQ(evl_async_init(&loop, &asyncs[i], never_async), 0);
    uint64_t crowded = time_dispatches(&asyncs[0]);
    CHECK_EQ(calls, 1600);
    CHECK_LT(crowded, alone * 10 + UINT64_C(3000000)); /* a walk through them takes 10 ms at best */
    finish(&loop);
    free(asyncs);
}

static uint64_t time_closing(int count) {
    uint64_t best = UINT64_MAX;
    evl_async_t *asyncs = (evl_async_t *)malloc((size_t)count * sizeof(*asyncs));
    CHECK(asyncs != NULL);
    for (int round = 0; round < 3; round++) {
        open_loop();
        for (int i = 0; i < count; i++) {
            CHECK_EQ(evl_async_init(&loop, &asyncs[i], never_async), 0);
            CHECK_EQ(evl_async_send(&asyncs[i]), 0);
        }
        uint64_t start = test_ns();
        for (int i = 0; i < count; i++)
            evl_close((evl_handle_t *)&asyncs[i], NULL);
        uint64_t spent = test_ns() - start;
        best = spent < best ? spent : best;
        finish(&loop);
    }
    free(asyncs);
    return best;
}

/* Each close must not look through all the others that were signalled. */
TEST(async_closing_many_that_are_signalled_takes_linear_time) {
    int count = test_slow() ? 500 : 3000;
    uint64_t few = time_closing(count);
    uint64_t many_more = time_closing(8 * count);
    CHECK_LT(many_more,
             few * 24 + UINT64_C(20000000)); /* quadratic: 64 times, over half a second */
}

TEST(async_allocates_nothing) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    size_t allocations = test_alloc_calls();
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(evl_async_send(&first), 0);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    }
    CHECK_EQ(test_alloc_calls(), allocations);
    CHECK_EQ(calls, 1001);
    finish(&loop);
}

static void send_second(evl_async_t *async) {
    (void)async;
    trace("1");
    CHECK_EQ(evl_async_send(&second), 0);
}

TEST(async_sent_from_another_ones_callback) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, send_second), 0);
    CHECK_EQ(evl_async_init(&loop, &second, trace_async), 0);
    second.data = text("2");
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    if (strcmp(trace_text, "1") == 0) /* in the same pass or the next, but not lost */
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("12");
    finish(&loop);
}

static void send_from_prepare(evl_prepare_t *prepare) {
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_EQ(evl_prepare_stop(prepare), 0);
}

static void send_from_timer(evl_timer_t *timer) {
    (void)timer;
    CHECK_EQ(evl_async_send(&first), 0);
}

/* A send from the loop's own thread between the phases counts at once: no sleep in between. */
TEST(async_sent_from_other_phases_keeps_the_loop_from_sleeping) {
    evl_prepare_t prepare;
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_prepare_start(&prepare, send_from_prepare), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_timer_start(&timer, send_from_timer, 0, 0), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0); /* the timer runs at its end */
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(calls, 2);
    finish(&loop);
}

/* ---- The price of a send --------------------------------------------------------------------- */

static void send_often_in_callback(evl_timer_t *timer) {
    (void)timer;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(evl_async_send(&first), 0);
        CHECK_EQ(evl_async_send(&second), 0);
        CHECK_EQ(evl_post(&loop, trace_task, text("")), 0);
    }
}

TEST(async_sends_to_an_awake_loop_make_no_system_call) {
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    CHECK_EQ(evl_async_init(&loop, &second, count_async), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, send_often_in_callback, 1, 1), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    test_fault_set("wake", 0, 0, 0); /* counts */
    for (int i = 0; i < 3; i++) {
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
        CHECK_LE(test_fault_calls("wake"), i + 1); /* one at most, when the run is left */
    }
    CHECK_GE(calls, 2 * 2);
    test_fault_clear();
    finish(&loop);
}

static void send_in_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_EQ(evl_async_send(&second), 0);
}

static void stop_after_many(evl_async_t *async) {
    if (++calls == 1000)
        evl_stop(async->loop);
}

TEST(async_sends_from_the_loops_own_callbacks_make_no_system_call) {
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, stop_after_many), 0);
    CHECK_EQ(evl_async_init(&loop, &second, NULL), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, send_in_prepare), 0);
    test_fault_set("wake", 0, 0, 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1000);
    CHECK_LE(test_fault_calls("wake"), 1); /* at the very end */
    test_fault_clear();
    finish(&loop);
}

/* Nobody sleeps: the loop finds what was sent when it runs. */
TEST(async_sends_to_a_loop_that_does_not_run_make_no_system_call) {
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    test_fault_set("wake", 0, 0, 0);
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    CHECK_EQ(evl_post_stop(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0); /* stopped */
    CHECK_EQ(evl_async_send(&first), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(test_fault_calls("wake"), 0);
    CHECK_EQ(calls, 1);
    CHECK_TRACE("p");
    test_fault_clear();
    finish(&loop);
}

/* Somebody may sleep on the loop's descriptor. */
TEST(async_many_sends_to_an_embedded_loop_make_one_system_call) {
    open_loop();
    if (evl_backend_fd(&loop) == -1)
        SKIP("this backend has no descriptor");
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    CHECK_EQ(evl_async_init(&loop, &second, count_async), 0);
    for (int round = 0; round < 3; round++) {
        test_fault_set("wake", 0, 0, 0);
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(evl_async_send(&first), 0);
            CHECK_EQ(evl_async_send(&second), 0);
            CHECK_EQ(evl_post(&loop, trace_task, text("")), 0);
        }
        CHECK_EQ(test_fault_calls("wake"), 1);
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    }
    CHECK_EQ(calls, 6);
    test_fault_clear();
    finish(&loop);
}

/* ---- From threads ---------------------------------------------------------------------------- */

static void *send_soon(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_async_send((evl_async_t *)arg), 0);
    return NULL;
}

TEST(async_wakes_a_sleeping_loop) {
    evl_timer_t timer;
    os_thread_t thread;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, close_async), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    evl_unref((evl_handle_t *)&timer);
    start_thread(&thread, send_soon, &first);
    run_all();
    join_thread(thread);
    CHECK_EQ(calls, 1);
    finish(&loop);
}

enum { SENDERS = 4 };
typedef struct {
    evl_async_t *async;
    volatile int published, seen;
} sender_t;
static sender_t senders[SENDERS];
static int sends_each;

static void *publish_and_send(void *arg) {
    sender_t *sender = (sender_t *)arg;
    for (int i = 1; i <= sends_each; i++) {
        shared_set(&sender->published, i);
        CHECK_EQ(evl_async_send(sender->async), 0);
    }
    return NULL;
}

static void look_at_all(evl_async_t *async) {
    int done = 1;
    calls++;
    for (int i = 0; i < SENDERS; i++) {
        int value = shared_get(&senders[i].published);
        CHECK_GE(value, senders[i].seen);
        senders[i].seen = value;
        done = done && value == sends_each;
    }
    if (done) /* no further send needs to come: had one been lost, the loop would sleep for ever */
        evl_stop(async->loop);
}

TEST(async_is_never_lost) {
    os_thread_t threads[SENDERS];
    sends_each = test_slow() ? 20000 : 100000;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, look_at_all), 0);
    for (int i = 0; i < SENDERS; i++) {
        senders[i].async = &first;
        start_thread(&threads[i], publish_and_send, &senders[i]);
    }
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    for (int i = 0; i < SENDERS; i++)
        join_thread(threads[i]);
    CHECK_LE(calls, sends_each * SENDERS);
    finish(&loop);
}

static void *send_to_many(void *arg) {
    uint32_t state = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < sends_each; i++) {
        state = state * 1664525u + 1013904223u;
        CHECK_EQ(evl_async_send(&many[(state >> 8) % 64]), 0);
    }
    return NULL;
}

static volatile int sent_last[64], seen_last[64];

static void look_at_one(evl_async_t *async) {
    ptrdiff_t index = async - many;
    calls++;
    if (shared_get(&sent_last[index]))
        shared_set(&seen_last[index], 1);
}

static void *send_last_to_each(void *arg) {
    (void)arg;
    for (int i = 0; i < 64; i++) {
        shared_set(&sent_last[i], 1);
        CHECK_EQ(evl_async_send(&many[i]), 0);
    }
    return NULL;
}

/* Many handles, many threads: the stack of the signalled ones is under pressure from all sides. */
TEST(async_many_handles_from_many_threads) {
    os_thread_t threads[SENDERS + 1];
    sends_each = test_slow() ? 10000 : 50000;
    open_loop();
    for (int i = 0; i < 64; i++)
        CHECK_EQ(evl_async_init(&loop, &many[i], look_at_one), 0);
    for (int i = 0; i < SENDERS; i++)
        start_thread(&threads[i], send_to_many, (void *)(uintptr_t)(i + 1));
    start_thread(&threads[SENDERS], send_last_to_each, NULL);
    for (int i = 0; i < 64; i++)
        while (!shared_get(&seen_last[i])) /* sleeps for ever if the last send was lost */
            CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    for (int i = 0; i <= SENDERS; i++)
        join_thread(threads[i]);
    CHECK_LE(calls, SENDERS * sends_each + 64);
    finish(&loop);
}

/* What was written before the send is visible in the callback, without any other synchronisation
 * (the thread sanitizer would see the lack of it). */
static int payload; /* plain on purpose */
static os_sem_t payload_taken;
static int payload_rounds;

static void *send_payloads(void *arg) {
    (void)arg;
    for (int i = 1; i <= payload_rounds; i++) {
        payload = i;
        CHECK_EQ(evl_async_send(&first), 0);
        os_sem_wait(&payload_taken);
    }
    return NULL;
}

static void take_payload(evl_async_t *async) {
    CHECK_EQ(payload, ++calls);
    if (calls == payload_rounds)
        evl_stop(async->loop);
    os_sem_post(&payload_taken);
}

TEST(async_publishes_what_was_written_before) {
    os_thread_t thread;
    payload_rounds = test_slow() ? 2000 : 10000;
    os_sem_init(&payload_taken);
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, take_payload), 0);
    start_thread(&thread, send_payloads, NULL);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    join_thread(thread);
    CHECK_EQ(calls, payload_rounds);
    os_sem_destroy(&payload_taken);
    finish(&loop);
}

/* Two loops send to each other in turn: each send meets a loop that is about to sleep. */
typedef struct player_s {
    evl_loop_t loop;
    evl_async_t async;
    struct player_s *other;
    int left;
} player_t;
static player_t players[2];

static void pass_on(evl_async_t *async) {
    player_t *player = (player_t *)async->data;
    CHECK_EQ(evl_async_send(&player->other->async), 0);
    if (--player->left == 0)
        evl_stop(&player->loop);
}

static void *play(void *arg) {
    player_t *player = (player_t *)arg;
    CHECK_NE(evl_run(&player->loop, EVL_RUN_DEFAULT), 0);
    return NULL;
}

TEST(async_no_wakeup_is_lost_between_two_loops) {
    os_thread_t thread;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(evl_loop_init(&players[i].loop), 0);
        CHECK_EQ(evl_async_init(&players[i].loop, &players[i].async, pass_on), 0);
        players[i].async.data = &players[i];
        players[i].other = &players[1 - i];
        players[i].left = test_slow() ? 1000 : 10000;
    }
    CHECK_EQ(evl_async_send(&players[0].async), 0);
    start_thread(&thread, play, &players[1]);
    play(&players[0]);
    join_thread(thread);
    CHECK_EQ(players[0].left, 0);
    CHECK_EQ(players[1].left, 0);
    finish(&players[0].loop);
    finish(&players[1].loop);
}

/* ---- Close against send ---------------------------------------------------------------------- */

static volatile int racer_ready, racer_done;

/* As many rounds as fit: the two threads need the processor in turn, which takes its time on a
 * machine that is busy with other things. */
static int race_goes_on(int rounds, uint64_t start_ms) {
    return rounds < 5 || (rounds < 500 && test_ms() - start_ms < 250);
}

static void *send_until_refused(void *arg) {
    evl_async_t *async = (evl_async_t *)arg;
    shared_set(&racer_ready, 1);
    while (evl_async_send(async) == 0)
        continue;
    CHECK_EQ(evl_async_send(async), EVL_EINVAL);
    shared_set(&racer_done, 1);
    return NULL;
}

static void free_after_race(evl_handle_t *handle) {
    while (!shared_get(&racer_done))
        os_yield();
    memset(handle, 0xa5, sizeof(evl_async_t));
    free(handle); /* the address sanitizer sees who still holds it */
    trace("x");
}

TEST(async_close_while_another_thread_sends) {
    uint64_t start = test_ms();
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &second, NULL), 0);
    evl_unref((evl_handle_t *)&second);
    for (int i = 0; race_goes_on(i, start); i++) {
        os_thread_t thread;
        evl_async_t *async = (evl_async_t *)malloc(sizeof(*async));
        CHECK(async != NULL);
        shared_set(&racer_ready, 0);
        shared_set(&racer_done, 0);
        CHECK_EQ(evl_async_init(&loop, async, count_async), 0);
        start_thread(&thread, send_until_refused, async);
        while (!shared_get(&racer_ready))
            os_yield();
        for (int j = 0; j < i % 4; j++)
            CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        evl_close((evl_handle_t *)async, free_after_race);
        int after_close = calls;
        run_all();
        CHECK_EQ(calls, after_close); /* nothing of it runs any more */
        CHECK_TRACE("x");
        CHECK_EQ(evl_async_send(&second), 0); /* the loop still takes what is sent to others */
        CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        join_thread(thread);
    }
    finish(&loop);
}

static void close_in_own_callback(evl_async_t *async) {
    calls++;
    evl_close((evl_handle_t *)async, free_after_race);
}

TEST(async_close_in_its_callback_while_another_thread_sends) {
    uint64_t start = test_ms();
    open_loop();
    for (int i = 0; race_goes_on(i, start); i++) {
        os_thread_t thread;
        evl_async_t *async = (evl_async_t *)malloc(sizeof(*async));
        CHECK(async != NULL);
        shared_set(&racer_done, 0);
        CHECK_EQ(evl_async_init(&loop, async, close_in_own_callback), 0);
        start_thread(&thread, send_until_refused, async);
        run_all();
        CHECK_EQ(calls, i + 1);
        CHECK_TRACE("x");
        join_thread(thread);
    }
    finish(&loop);
}

typedef struct {
    evl_loop_t loop;
    evl_async_t async;
} heap_t;

static void *last_send(void *arg) {
    test_sleep_ms(10);
    CHECK_EQ(evl_async_send(&((heap_t *)arg)->async), 0);
    return NULL;
}

static void *last_post(void *arg) {
    test_sleep_ms(10);
    CHECK_EQ(evl_post(&((heap_t *)arg)->loop, trace_task, text("p")), 0);
    return NULL;
}

static void *last_stop(void *arg) {
    test_sleep_ms(10);
    CHECK_EQ(evl_post_stop(&((heap_t *)arg)->loop), 0);
    return NULL;
}

/* A sender that has delivered but is still busy waking the loop (here the system call is interrupted
 * again and again) must not find the loop closed under its hands: evl_loop_close waits for it. */
static void no_timer(evl_timer_t *timer) {
    (void)timer;
}

static volatile int sender_freed;

static void *free_sender(void *arg) {
    (void)arg;
    test_sleep_ms(20);
    shared_set(&sender_freed, 1);
    test_fault_clear();
    return NULL;
}

/* Has another thread send to the loop while it sleeps, in a system call that does not end. The loop
 * goes on when a timer is due. Returns 0 if the sender came before the loop slept. */
static int send_to_sleeper(os_thread_t *thread, void *(*send)(void *), heap_t *heap) {
    evl_timer_t timer;
    int caught;
    test_fault_set("wake", 1, -1, EINTR);
    CHECK_EQ(evl_timer_init(&heap->loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, no_timer, 100, 0), 0);
    start_thread(thread, send, heap);
    while (test_fault_calls("wake") < 10 && evl_is_active((evl_handle_t *)&timer))
        evl_run(&heap->loop, EVL_RUN_ONCE);
    caught = test_fault_calls("wake") >= 10;
    evl_close((evl_handle_t *)&timer, NULL);
    evl_run(&heap->loop, EVL_RUN_NOWAIT);
    return caught;
}

TEST(async_loop_close_waits_for_senders) {
    static void *(*const sends[])(void *) = {last_send, last_post, last_stop};
    for (int i = 0, caught; i < 3; i += caught) {
        unsigned char expected[sizeof(heap_t)];
        os_thread_t thread, other;
        heap_t *heap = (heap_t *)malloc(sizeof(*heap));
        CHECK(heap != NULL);
        trace_reset();
        CHECK_EQ(evl_loop_init(&heap->loop), 0);
        CHECK_EQ(evl_async_init(&heap->loop, &heap->async, NULL), 0);
        caught = send_to_sleeper(&thread, sends[i], heap);
        CHECK_EQ(trace_length, i == 1); /* it has been delivered */
        evl_close((evl_handle_t *)&heap->async, NULL);
        CHECK_EQ(evl_run(&heap->loop, EVL_RUN_DEFAULT), 0);
        shared_set(&sender_freed, 0);
        start_thread(&other, free_sender, NULL);
        CHECK_EQ(evl_loop_close(&heap->loop), 0);
        CHECK(shared_get(&sender_freed) || !caught);
        memset(heap, 0xa5, sizeof(*heap));
        join_thread(thread);
        join_thread(other);
        memset(expected, 0xa5, sizeof(expected));
        CHECK_MEM(heap, expected, sizeof(*heap));
        free(heap);
    }
}

/* ---- From signal handlers -------------------------------------------------------------------- */

#if !defined(_WIN32) /* which has no signals */

static void send_from_handler(int signum) {
    (void)signum;
    int result = evl_async_send(&first);
    if (result != 0 && result != EVL_EINVAL) /* a late signal may meet the closed handle */
        abort();
}

static void post_stop_from_handler(int signum) {
    (void)signum;
    if (evl_post_stop(&loop) != 0)
        abort();
}

static pthread_t main_thread;

static void *signal_soon(void *arg) {
    (void)arg;
    test_sleep_ms(20);
    CHECK_EQ(pthread_kill(main_thread, SIGUSR1), 0);
    return NULL;
}

static void install(void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

TEST(async_sent_from_a_signal_handler) {
    os_thread_t thread;
    open_loop();
    install(send_from_handler);
    main_thread = pthread_self();
    CHECK_EQ(evl_async_init(&loop, &first, close_async), 0);
    start_thread(&thread, signal_soon, NULL); /* while the loop sleeps */
    run_all();
    CHECK_EQ(calls, 1);
    join_thread(thread);
    CHECK_EQ(evl_async_init(&loop, &first, close_async), 0);
    CHECK_EQ(raise(SIGUSR1), 0); /* outside of evl_run */
    run_all();
    CHECK_EQ(calls, 2);
    finish(&loop);
}

static void *signal_often(void *arg) {
    volatile int *stop = (volatile int *)arg;
    while (!shared_get(stop)) {
        CHECK_EQ(pthread_kill(main_thread, SIGUSR1), 0);
        busy_ns(5000);
    }
    return NULL;
}

static void send_and_count(evl_async_t *async) {
    if (++calls < 20000)
        CHECK_EQ(evl_async_send(async), 0);
    else
        evl_stop(async->loop);
}

/* The handler interrupts the very functions that it calls itself, on the same handle. */
TEST(async_signal_handler_interrupts_sends) {
    os_thread_t thread;
    volatile int stop = 0;
    open_loop();
    install(send_from_handler);
    main_thread = pthread_self();
    CHECK_EQ(evl_async_init(&loop, &first, send_and_count), 0);
    start_thread(&thread, signal_often, (void *)(uintptr_t)&stop);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    shared_set(&stop, 1);
    join_thread(thread);
    CHECK_GE(calls, 20000);
    finish(&loop);
}

#endif /* !_WIN32 */

/* ---- evl_post_stop --------------------------------------------------------------------------- */

static void *post_stop_soon(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_post_stop((evl_loop_t *)arg), 0);
    return NULL;
}

TEST(async_post_stop_wakes_a_sleeping_loop) {
    os_thread_t thread;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    start_thread(&thread, post_stop_soon, &loop);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    join_thread(thread);
    CHECK_EQ(evl_async_send(&first), 0);
    evl_close((evl_handle_t *)&first, NULL);
    run_all(); /* the stop was good for one run only */
    finish(&loop);
}

TEST(async_post_stop_before_run) {
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = text("t");
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 0, 0), 0);
    CHECK_EQ(evl_post_stop(&loop), 0);
    CHECK_EQ(evl_post_stop(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE(""); /* it did not turn at all, as after evl_stop */
    run_all();
    CHECK_TRACE("t");
    finish(&loop);
}

#if !defined(_WIN32) /* which has no signals */

TEST(async_post_stop_from_a_signal_handler) {
    os_thread_t thread;
    open_loop();
    install(post_stop_from_handler);
    main_thread = pthread_self();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    start_thread(&thread, signal_soon, NULL);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    join_thread(thread);
    finish(&loop);
}

#endif /* !_WIN32 */

static volatile int stop_requests;

static void *post_stop_often(void *arg) {
    int rounds = *(const int *)arg;
    for (int i = 1; i <= rounds; i++) {
        shared_set(&stop_requests, i);
        CHECK_EQ(evl_post_stop(&loop), 0);
        while (shared_get(&stop_requests) != 0) /* until the run has ended */
            os_yield();
    }
    return NULL;
}

/* No stop is lost, whatever the loop is doing just then. */
TEST(async_post_stop_is_never_lost) {
    os_thread_t thread;
    int rounds = test_slow() ? 500 : 5000;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    start_thread(&thread, post_stop_often, &rounds);
    for (int i = 0; i < rounds; i++) {
        CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0); /* sleeps for ever if it was lost */
        while (shared_get(&stop_requests) == 0)
            os_yield();
        shared_set(&stop_requests, 0);
    }
    join_thread(thread);
    finish(&loop);
}

/* ---- Posts ----------------------------------------------------------------------------------- */

static void post(const char *what) {
    CHECK_EQ(evl_post(&loop, trace_task, text(what)), 0);
}

TEST(async_posts_run_in_order_in_the_poll_phase) {
    evl_prepare_t prepare;
    evl_check_t check;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, mark_iteration), 0);
    evl_unref((evl_handle_t *)&prepare);
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, trace_check), 0);
    evl_unref((evl_handle_t *)&check);
    post("1");
    post("2");
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    post("3");
    run_all();
    CHECK_TRACE("|123ci");
    finish(&loop);
}

TEST(async_post_keeps_the_loop_alive_and_awake) {
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    evl_unref((evl_handle_t *)&timer);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    post("p");
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("p");
    CHECK_EQ(evl_loop_alive(&loop), 0);
    finish(&loop);
}

static void post_again(evl_loop_t *l, void *arg) {
    (void)l;
    trace("p");
    if (--sends_left > 0)
        CHECK_EQ(evl_post(&loop, post_again, arg), 0);
}

TEST(async_post_from_a_post_waits_for_the_next_iteration) {
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, mark_iteration), 0);
    evl_unref((evl_handle_t *)&prepare);
    sends_left = 3;
    CHECK_EQ(evl_post(&loop, post_again, NULL), 0);
    post("q");
    run_all();
    CHECK_TRACE("|pq|p|p");
    finish(&loop);
}

static void *post_soon(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_post((evl_loop_t *)arg, trace_task, text("p")), 0);
    CHECK_EQ(evl_post_stop((evl_loop_t *)arg), 0);
    return NULL;
}

static void *post_only(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_post((evl_loop_t *)arg, trace_task, text("p")), 0);
    return NULL;
}

TEST(async_post_wakes_a_sleeping_loop) {
    os_thread_t thread;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    start_thread(&thread, post_only, &loop);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("p");
    join_thread(thread);
    finish(&loop);
}

TEST(async_post_and_stop_both_arrive) {
    os_thread_t thread;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    start_thread(&thread, post_soon, &loop);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    join_thread(thread);
    evl_close((evl_handle_t *)&first, NULL);
    run_all(); /* the stop may have come before the post could run */
    CHECK_TRACE("p");
    finish(&loop);
}

static int posts_each, posts_left;
static int next_of_sender[SENDERS];

static void check_in_order(evl_loop_t *l, void *arg) {
    int value = *(const int *)arg;
    int sender = value % SENDERS;
    CHECK_EQ(value / SENDERS, next_of_sender[sender]);
    next_of_sender[sender]++;
    free(arg);
    if (--posts_left == 0)
        evl_stop(l);
}

static void *post_many(void *arg) {
    int sender = (int)(intptr_t)arg;
    for (int i = 0; i < posts_each; i++) {
        int *value = (int *)malloc(sizeof(*value)); /* published by the post alone */
        CHECK(value != NULL);
        *value = i * SENDERS + sender;
        CHECK_EQ(evl_post(&loop, check_in_order, value), 0);
    }
    return NULL;
}

TEST(async_posts_of_each_thread_run_in_order) {
    os_thread_t threads[SENDERS];
    posts_each = test_slow() ? 5000 : 20000;
    posts_left = posts_each * SENDERS;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &first, never_async), 0);
    for (int i = 0; i < SENDERS; i++)
        start_thread(&threads[i], post_many, (void *)(intptr_t)i);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    for (int i = 0; i < SENDERS; i++) {
        join_thread(threads[i]);
        CHECK_EQ(next_of_sender[i], posts_each);
    }
    finish(&loop);
}

/* A flood of posts leaves the timers their turn. */
static void post_forever(evl_loop_t *l, void *arg) {
    if (!*(int *)arg)
        CHECK_EQ(evl_post(l, post_forever, arg), 0);
}

static void end_flood(evl_timer_t *timer) {
    *(int *)timer->data = 1;
}

TEST(async_posts_starve_no_timers) {
    evl_timer_t timer;
    int over = 0;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = &over;
    CHECK_EQ(evl_timer_start(&timer, end_flood, 5, 0), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(evl_post(&loop, post_forever, &over), 0);
    run_all();
    CHECK_EQ(over, 1);
    finish(&loop);
}

TEST(async_post_fails_without_memory) {
    open_loop();
    post("1");
    test_alloc_fail(1, -1);
    int result = evl_post(&loop, never_task, NULL);
    test_alloc_fail(0, 0);
    CHECK_EQ(result, EVL_ENOMEM);
    post("2");
    run_all();
    CHECK_TRACE("12");
    CHECK_EQ(evl_loop_alive(&loop), 0); /* the refused one does not count */
    finish(&loop);
}

/* ---- Embedding ------------------------------------------------------------------------------- */

static int readable_within(int fd, int ms) {
    return os_poll((evl_os_sock_t)fd, POLLIN, ms) != 0;
}

/* A loop that is not running is woken through its descriptor, whoever wakes it. */
TEST(async_send_outside_of_run_makes_the_backend_readable) {
    open_loop();
    int fd = evl_backend_fd(&loop);
    if (fd == -1)
        SKIP("this backend has no descriptor");
    SKIP_ON_LIBKQUEUE(OS_NO_POLL_ON_KQUEUE);
    CHECK_EQ(evl_async_init(&loop, &first, count_async), 0);
    for (int i = 1; i <= 3; i++) {
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        CHECK_EQ(readable_within(fd, 0), 0);
        CHECK_EQ(evl_async_send(&first), 0);
        CHECK_EQ(readable_within(fd, 0), 1);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        CHECK_EQ(calls, i);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(readable_within(fd, 0), 0);
        post("p");
        CHECK_EQ(readable_within(fd, 0), 1);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    }
    CHECK_TRACE("ppp");
    finish(&loop);
}

TEST(async_embedded_loop_is_woken_by_a_thread) {
    os_thread_t thread;
    open_loop();
    int fd = evl_backend_fd(&loop);
    if (fd == -1)
        SKIP("this backend has no descriptor");
    SKIP_ON_LIBKQUEUE(OS_NO_POLL_ON_KQUEUE);
    CHECK_EQ(evl_async_init(&loop, &first, close_async), 0);
    start_thread(&thread, send_soon, &first);
    while (evl_loop_alive(&loop)) {
        readable_within(fd, evl_backend_timeout(&loop));
        evl_run(&loop, EVL_RUN_NOWAIT);
    }
    join_thread(thread);
    CHECK_EQ(calls, 1);
    finish(&loop);
}
