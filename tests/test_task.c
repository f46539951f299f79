/* Ticks, microtasks, the checkpoint, immediates, timeouts and intervals. */
#include "trace.h"

#define MS UINT64_C(1000000)

static evl_loop_t loop;

static void open_loop(void) {
    memset(&loop, 0xa5, sizeof(loop)); /* init relies on nothing */
    CHECK_EQ(evl_loop_init(&loop), 0);
    trace_reset();
}

static void tick(const char *what) {
    CHECK_EQ(evl_next_tick(&loop, trace_task, text(what)), 0);
}

static void microtask(const char *what) {
    CHECK_EQ(evl_queue_microtask(&loop, trace_task, text(what)), 0);
}

static evl_task_id immediate(const char *what) {
    evl_task_id id = 0;
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text(what), &id), 0);
    CHECK_NE(id, 0);
    return id;
}

static evl_task_id timeout(uint64_t ms, const char *what) {
    evl_task_id id = 0;
    CHECK_EQ(evl_set_timeout(&loop, ms, trace_task, text(what), &id), 0);
    CHECK_NE(id, 0);
    return id;
}

static void run_all(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
}

TEST(task_order_of_the_seeds) {
    open_loop();
    immediate("1");
    timeout(0, "2");
    microtask("3");
    tick("4");
    run_all();
    CHECK_TRACE("4321");
    finish(&loop);
}

/* ---- Ticks and microtasks -------------------------------------------------------------------- */

static void nested_microtask(evl_loop_t *l, void *arg) {
    (void)l;
    trace((const char *)arg);
    tick("T");
    microtask("M");
}

static void nested_tick(evl_loop_t *l, void *arg) {
    (void)l;
    trace((const char *)arg);
    microtask("y");
    tick("x");
}

TEST(task_ticks_before_microtasks_until_both_are_empty) {
    open_loop();
    microtask("m");
    CHECK_EQ(evl_queue_microtask(&loop, nested_microtask, text("(")), 0);
    microtask("n");
    tick("a");
    CHECK_EQ(evl_next_tick(&loop, nested_tick, text("[")), 0);
    tick("b");
    run_all();
    /* All ticks with those that ticks queue; all microtasks likewise; then the tick of a microtask. */
    CHECK_TRACE("a[bxm(nyMT");
    finish(&loop);
}

TEST(task_queues_run_without_anything_that_keeps_the_loop_alive) {
    open_loop();
    tick("t");
    microtask("m");
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("tm");
    tick("t");
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("t");
    microtask("m");
    CHECK_EQ(evl_run_for(&loop, UINT64_C(10000000000)), 0);
    CHECK_TRACE("m");
    finish(&loop);
}

static void start_timeout(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    trace("i");
    timeout(1, "o");
}

static void start_work(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("t");
    CHECK_EQ(evl_set_immediate(l, start_timeout, NULL, NULL), 0);
}

TEST(task_tick_before_the_first_phase_may_bring_the_loop_to_life) {
    open_loop();
    CHECK_EQ(evl_next_tick(&loop, start_work, NULL), 0);
    run_all();
    CHECK_TRACE("tio");
    CHECK_EQ(evl_next_tick(&loop, start_work, NULL), 0);
    while (evl_run(&loop, EVL_RUN_ONCE) != 0)
        continue;
    CHECK_TRACE("tio");
    finish(&loop);
}

static void tick_then_work(evl_timer_t *timer) {
    trace("T");
    tick("t");
    microtask("m");
    CHECK_EQ(evl_timer_stop(timer), 0); /* none of these calls is a turn */
    CHECK_EQ(evl_timer_start(timer, trace_timer, 0, 0), 0);
    evl_update_time(&loop);
    trace(".");
}

TEST(task_queues_wait_for_the_end_of_the_callback) {
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = text("U");
    CHECK_EQ(evl_timer_start(&timer, tick_then_work, 0, 0), 0);
    run_all();
    CHECK_TRACE("T.tmU");
    finish(&loop);
}

/* Every callback of the loop says its letter and queues a tick and a microtask. Whatever the order
 * of the letters, "tm" must stand behind each. */
static int letters;

static void turn(char letter) {
    char string[2];
    string[0] = letter;
    string[1] = '\0';
    trace(string);
    letters++;
    tick("t");
    microtask("m");
}

static void check_turns(void) {
    const char *s = trace_text;
    for (; *s != '\0'; s += 3) {
        CHECK(s[0] != 't' && s[0] != 'm');
        CHECK(s[1] == 't' && s[2] == 'm');
    }
}

static void turn_timer(evl_timer_t *timer) {
    (void)timer;
    turn('T');
}

static void turn_close(evl_handle_t *handle) {
    (void)handle;
    turn('X');
}

static void turn_idle(evl_idle_t *idle) {
    turn('I');
    CHECK_EQ(evl_idle_stop(idle), 0);
}

static void turn_prepare(evl_prepare_t *prepare) {
    turn('P');
    CHECK_EQ(evl_prepare_stop(prepare), 0);
}

static void turn_check(evl_check_t *check) {
    turn('C');
    CHECK_EQ(evl_check_stop(check), 0);
}

static void turn_async(evl_async_t *async) {
    turn('A');
    evl_close((evl_handle_t *)async, turn_close);
}

static void turn_poll(evl_poll_t *poll, int status, int events) {
    CHECK_EQ(status, 0);
    CHECK_NE(events, 0);
    turn('F');
    evl_close((evl_handle_t *)poll, turn_close);
}

static void turn_task(evl_loop_t *l, void *arg) {
    (void)l;
    turn(*(const char *)arg);
}

static evl_task_id interval_id;

static void turn_interval(evl_loop_t *l, void *arg) {
    turn(*(const char *)arg);
    CHECK_EQ(evl_clear_task(l, interval_id), 0);
}

TEST(task_queues_are_drained_after_every_callback) {
    evl_timer_t timers[2];
    evl_idle_t idles[2];
    evl_prepare_t prepares[2];
    evl_check_t checks[2];
    evl_async_t asyncs[2];
    evl_poll_t polls[2];
    evl_os_sock_t sockets[2];
    open_loop();
    CHECK_EQ(evl_socketpair(SOCK_STREAM, 0, sockets, 0, 0), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(evl_timer_init(&loop, &timers[i]), 0);
        CHECK_EQ(evl_idle_init(&loop, &idles[i]), 0);
        CHECK_EQ(evl_prepare_init(&loop, &prepares[i]), 0);
        CHECK_EQ(evl_check_init(&loop, &checks[i]), 0);
        CHECK_EQ(evl_async_init(&loop, &asyncs[i], turn_async), 0);
        CHECK_EQ(evl_poll_init_socket(&loop, &polls[i], sockets[i]), 0);
        CHECK_EQ(evl_timer_start(&timers[i], turn_timer, 0, 0), 0);
        CHECK_EQ(evl_idle_start(&idles[i], turn_idle), 0);
        CHECK_EQ(evl_prepare_start(&prepares[i], turn_prepare), 0);
        CHECK_EQ(evl_check_start(&checks[i], turn_check), 0);
        CHECK_EQ(evl_async_send(&asyncs[i]), 0);
        CHECK_EQ(evl_poll_start(&polls[i], EVL_WRITABLE, turn_poll), 0);
        CHECK_EQ(evl_set_immediate(&loop, turn_task, text("M"), NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, 1, turn_task, text("O"), NULL), 0);
        CHECK_EQ(evl_post(&loop, turn_task, text("P")), 0);
    }
    CHECK_EQ(evl_set_interval(&loop, 0, turn_interval, text("V"), &interval_id), 0);
    run_all();
    CHECK_EQ(letters, 9 * 2 + 1 + 4);
    check_turns();
    CHECK_EQ(os_close(sockets[0]), 0);
    CHECK_EQ(os_close(sockets[1]), 0);
    finish(&loop);
}

/* ---- The checkpoint -------------------------------------------------------------------------- */

static int checkpoint_calls, checkpoint_ticks;

static void checkpoint(evl_loop_t *l, void *arg) {
    CHECK_PTR(l, &loop);
    CHECK_PTR(arg, &checkpoint_calls);
    checkpoint_calls++;
    trace("c");
    if (checkpoint_ticks > 0) {
        checkpoint_ticks--;
        if (checkpoint_ticks % 2 == 0)
            tick("t");
        else
            microtask("m");
    }
}

static void callback_letter(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    trace("X");
}

static void callback_and_queues(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    trace("X");
    microtask("m");
    tick("t");
}

/* Between any two callbacks the checkpoint has had the last word. */
static void check_checkpoints(void) {
    for (const char *s = trace_text; *s != '\0'; s++) {
        if (*s == 'X')
            CHECK(s > trace_text && s[-1] == 'c');
        if (s[1] == '\0')
            CHECK(*s == 'c');
    }
}

TEST(task_checkpoint_after_each_callback) {
    open_loop();
    evl_set_microtask_checkpoint(&loop, checkpoint, &checkpoint_calls);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_set_immediate(&loop, callback_letter, NULL, NULL), 0);
        CHECK_EQ(evl_set_immediate(&loop, callback_and_queues, NULL, NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, 0, callback_letter, NULL, NULL), 0);
    }
    run_all();
    check_checkpoints();
    CHECK_GE(checkpoint_calls, 10); /* before the first phase, and after each */
    finish(&loop);
}

TEST(task_checkpoint_comes_after_the_queues) {
    open_loop();
    evl_set_microtask_checkpoint(&loop, checkpoint, &checkpoint_calls);
    microtask("m");
    tick("t");
    run_all();
    CHECK_TRACE("tmc");
    finish(&loop);
}

TEST(task_checkpoint_may_queue_more) {
    open_loop();
    evl_set_microtask_checkpoint(&loop, checkpoint, &checkpoint_calls);
    checkpoint_ticks = 5;
    CHECK_EQ(evl_set_immediate(&loop, callback_and_queues, NULL, NULL), 0);
    CHECK_EQ(evl_set_immediate(&loop, callback_letter, NULL, NULL), 0);
    run_all();
    CHECK_STR(trace_text, "ctcmctcmctcXtmcXc");
    check_checkpoints();
    trace_reset();
    evl_set_microtask_checkpoint(&loop, NULL, NULL);
    immediate("i");
    run_all();
    CHECK_TRACE("i");
    finish(&loop);
}

static void remove_checkpoint(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("c");
    tick("t");
    evl_set_microtask_checkpoint(l, NULL, NULL);
}

TEST(task_checkpoint_may_remove_itself) {
    open_loop();
    evl_set_microtask_checkpoint(&loop, remove_checkpoint, NULL);
    immediate("i");
    run_all();
    CHECK_TRACE("cti");
    finish(&loop);
}

/* ---- What is no turn ------------------------------------------------------------------------- */

static void walked(evl_handle_t *handle, void *arg) {
    (void)handle;
    (void)arg;
    trace("w");
    tick("t");
}

static void walk_from_timer(evl_timer_t *timer) {
    (void)timer;
    trace("T");
    tick("t");
    evl_walk(&loop, walked, NULL);
    trace(".");
}

TEST(task_walk_is_no_turn) {
    evl_timer_t timer, other;
    open_loop();
    evl_set_microtask_checkpoint(&loop, checkpoint, &checkpoint_calls);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_init(&loop, &other), 0);
    evl_walk(&loop, walked, NULL); /* outside of evl_run */
    CHECK_TRACE("ww");
    CHECK_EQ(checkpoint_calls, 0);
    CHECK_EQ(evl_timer_start(&timer, walk_from_timer, 0, 0), 0);
    run_all();
    CHECK_TRACE("ttcTww.tttc");
    finish(&loop);
}

#ifndef EVLOOP_NO_NET

static char read_buffer[64];

static void tick_in_alloc(evl_handle_t *handle, size_t suggested, evl_buf_t *buf) {
    (void)handle;
    (void)suggested;
    trace("a");
    tick("t");
    *buf = evl_buf_init(read_buffer, sizeof(read_buffer));
}

static void read_and_close(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    CHECK_EQ(nread, 5);
    CHECK_MEM(buf->base, "hello", 5);
    trace("r");
    evl_close((evl_handle_t *)stream, NULL);
}

TEST(task_alloc_is_no_turn) {
    evl_os_sock_t fds[2];
    evl_tcp_t tcp;
    open_loop();
    os_tcp_pair(fds);
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    CHECK_EQ(evl_read_start((evl_stream_t *)&tcp, tick_in_alloc, read_and_close), 0);
    CHECK_EQ(os_send(fds[1], "hello", 5), 5);
    run_all();
    CHECK_TRACE("art");
    CHECK_EQ(os_close(fds[1]), 0);
    finish(&loop);
}

static evl_tcp_t server, accepted, client;
static evl_write_t write_requests[3];
static evl_shutdown_t shutdown_request;

static void turn_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)buf;
    turn('R');
    if (nread < 0)
        evl_close((evl_handle_t *)stream, turn_close);
}

static void turn_write(evl_write_t *request, int status) {
    (void)request;
    CHECK_EQ(status, 0);
    turn('W');
}

static void turn_shutdown(evl_shutdown_t *request, int status) {
    CHECK_EQ(status, 0);
    turn('S');
    evl_close((evl_handle_t *)request->handle, turn_close);
}

static void turn_connection(evl_stream_t *stream, int status) {
    CHECK_EQ(status, 0);
    turn('L');
    CHECK_EQ(evl_tcp_init(&loop, &accepted), 0);
    CHECK_EQ(evl_accept(stream, (evl_stream_t *)&accepted), 0);
    CHECK_EQ(evl_read_start((evl_stream_t *)&accepted, NULL, turn_read), 0);
    evl_close((evl_handle_t *)stream, turn_close);
}

static void turn_connect(evl_connect_t *request, int status) {
    static char bytes[] = "abc";
    evl_buf_t buf = evl_buf_init(bytes, 3);
    CHECK_EQ(status, 0);
    turn('N');
    for (int i = 0; i < 3; i++)
        CHECK_EQ(evl_write(&write_requests[i], request->handle, &buf, 1, turn_write), 0);
    CHECK_EQ(evl_shutdown(&shutdown_request, request->handle, turn_shutdown), 0);
}

TEST(task_queues_are_drained_after_every_tcp_callback) {
    struct sockaddr_in address;
    int length = sizeof(address);
    evl_connect_t connect_request;
    open_loop();
    CHECK_EQ(evl_ip4_addr("127.0.0.1", 0, &address), 0);
    CHECK_EQ(evl_tcp_init(&loop, &server), 0);
    CHECK_EQ(evl_tcp_init(&loop, &client), 0);
    CHECK_EQ(evl_tcp_bind(&server, (const struct sockaddr *)&address, 0), 0);
    CHECK_EQ(evl_listen((evl_stream_t *)&server, 1, turn_connection), 0);
    CHECK_EQ(evl_tcp_getsockname(&server, (struct sockaddr *)&address, &length), 0);
    CHECK_EQ(
        evl_tcp_connect(&connect_request, &client, (const struct sockaddr *)&address, turn_connect),
        0);
    run_all();
    check_turns();
    CHECK_GE(letters, 2 + 3 + 1 + 2 + 3); /* L N, W W W, S, R R, X X X */
    finish(&loop);
}

#endif

/* ---- Immediates ------------------------------------------------------------------------------ */

static void mark_iteration(evl_prepare_t *prepare) {
    (void)prepare;
    trace("|");
}

static evl_prepare_t marker;

/* A bar in the trace for each iteration. */
static void mark_iterations(void) {
    CHECK_EQ(evl_prepare_init(&loop, &marker), 0);
    CHECK_EQ(evl_prepare_start(&marker, mark_iteration), 0);
    evl_unref((evl_handle_t *)&marker);
}

static void immediate_again(evl_loop_t *l, void *arg) {
    (void)l;
    trace((const char *)arg);
    immediate("n");
    tick("t");
}

static void immediate_from_tick(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    immediate("k");
}

TEST(task_immediates_run_in_order_and_new_ones_wait) {
    open_loop();
    mark_iterations();
    immediate("a");
    CHECK_EQ(evl_set_immediate(&loop, immediate_again, text("b"), NULL), 0);
    immediate("c");
    CHECK_EQ(evl_next_tick(&loop, immediate_from_tick, NULL), 0);
    run_all();
    CHECK_TRACE("|abtck|n");
    finish(&loop);
}

static void immediate_from_check(evl_check_t *check) {
    trace("C");
    immediate("i");
    CHECK_EQ(evl_check_stop(check), 0);
}

static void immediate_from_close(evl_handle_t *handle) {
    (void)handle;
    trace("X");
    immediate("j");
}

TEST(task_immediates_run_behind_the_checks_of_their_iteration) {
    evl_check_t check;
    evl_timer_t timer;
    open_loop();
    mark_iterations();
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, immediate_from_check), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    evl_close((evl_handle_t *)&timer, immediate_from_close);
    immediate("h");
    run_all();
    CHECK_TRACE("|ChiX|j");
    finish(&loop);
}

TEST(task_immediate_keeps_the_loop_awake_and_alive) {
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    evl_unref((evl_handle_t *)&timer);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    immediate("i");
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("i");
    CHECK_EQ(evl_loop_alive(&loop), 0);
    evl_task_id id = immediate("i");
    CHECK_EQ(evl_clear_task(&loop, id), 0);
    CHECK_EQ(evl_loop_alive(&loop), 0); /* the count is even */
    finish(&loop);
}

static int chain_left;

static void chain_immediate(evl_loop_t *l, void *arg) {
    if (--chain_left > 0)
        CHECK_EQ(evl_set_immediate(l, chain_immediate, arg, NULL), 0);
}

static void count_zero(evl_timer_t *timer) {
    if (++*(int *)timer->data == 50)
        CHECK_EQ(evl_timer_stop(timer), 0);
}

TEST(task_immediates_that_queue_themselves_starve_nothing) {
    evl_timer_t timer;
    int fired = 0;
    open_loop();
    chain_left = 100;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(evl_set_immediate(&loop, chain_immediate, NULL, NULL), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = &fired;
    CHECK_EQ(evl_timer_start_ns(&timer, count_zero, 0, 1), 0);
    run_all();
    CHECK_EQ(fired, 50);
    finish(&loop);
}

/* ---- Clearing -------------------------------------------------------------------------------- */

TEST(task_clear_before_it_runs) {
    open_loop();
    evl_task_id a = immediate("a");
    evl_task_id b = immediate("b");
    evl_task_id c = timeout(0, "c");
    evl_task_id d = timeout(0, "d");
    evl_task_id e;
    CHECK_EQ(evl_set_interval(&loop, 0, never_task, NULL, &e), 0);
    CHECK_EQ(evl_clear_task(&loop, a), 0);
    CHECK_EQ(evl_clear_task(&loop, d), 0);
    CHECK_EQ(evl_clear_task(&loop, e), 0);
    CHECK_EQ(evl_clear_task(&loop, a), EVL_ENOENT); /* cleared already */
    CHECK_EQ(evl_clear_task(&loop, d), EVL_ENOENT);
    CHECK_EQ(evl_clear_task(&loop, e), EVL_ENOENT);
    run_all();
    CHECK_TRACE("cb");
    CHECK_EQ(evl_clear_task(&loop, b), EVL_ENOENT); /* has run */
    CHECK_EQ(evl_clear_task(&loop, c), EVL_ENOENT);
    finish(&loop);
}

TEST(task_clear_what_never_was) {
    open_loop();
    CHECK_EQ(evl_clear_task(&loop, 0), EVL_ENOENT);
    CHECK_EQ(evl_clear_task(&loop, 1), EVL_ENOENT);
    CHECK_EQ(evl_clear_task(&loop, UINT64_MAX), EVL_ENOENT);
    evl_task_id id = immediate("i");
    CHECK_EQ(evl_clear_task(&loop, 0), EVL_ENOENT);
    CHECK_EQ(evl_clear_task(&loop, ~id), EVL_ENOENT);
    for (int bit = 0; bit < 64; bit++)
        CHECK_EQ(evl_clear_task(&loop, id ^ (UINT64_C(1) << bit)), EVL_ENOENT);
    for (uint64_t delta = 1; delta < 100000; delta++) {
        CHECK_EQ(evl_clear_task(&loop, id + delta), EVL_ENOENT);
        CHECK_EQ(evl_clear_task(&loop, id - delta), EVL_ENOENT);
    }
    run_all();
    CHECK_TRACE("i");
    finish(&loop);
}

static evl_task_id ids[8];

static void clear_others(evl_loop_t *l, void *arg) {
    trace((const char *)arg);
    CHECK_EQ(evl_clear_task(l, ids[0]), EVL_ENOENT); /* has run */
    CHECK_EQ(evl_clear_task(l, ids[1]), EVL_ENOENT); /* is running, and a one-shot */
    CHECK_EQ(evl_clear_task(l, ids[2]), 0);
    CHECK_EQ(evl_clear_task(l, ids[4]), 0);
    CHECK_EQ(evl_clear_task(l, ids[4]), EVL_ENOENT);
}

TEST(task_immediates_clear_each_other) {
    open_loop();
    ids[0] = immediate("0");
    CHECK_EQ(evl_set_immediate(&loop, clear_others, text("1"), &ids[1]), 0);
    ids[2] = immediate("2"); /* the next */
    ids[3] = immediate("3");
    ids[4] = immediate("4"); /* the last */
    run_all();
    CHECK_TRACE("013");
    finish(&loop);
}

TEST(task_timeouts_clear_each_other) {
    open_loop();
    ids[0] = timeout(1, "0");
    CHECK_EQ(evl_set_timeout(&loop, 1, clear_others, text("1"), &ids[1]), 0);
    ids[2] = timeout(1, "2"); /* due in the same pass */
    ids[3] = timeout(1, "3");
    ids[4] = timeout(3, "4"); /* due later */
    test_sleep_ms(2);
    run_all();
    CHECK_TRACE("013");
    finish(&loop);
}

static void clear_new_one(evl_loop_t *l, void *arg) {
    (void)arg;
    evl_task_id id = immediate("n");
    CHECK_EQ(evl_clear_task(l, id), 0);
    id = timeout(0, "o");
    CHECK_EQ(evl_clear_task(l, id), 0);
    trace("c");
}

TEST(task_clear_what_was_set_in_the_same_callback) {
    open_loop();
    CHECK_EQ(evl_set_immediate(&loop, clear_new_one, NULL, NULL), 0);
    immediate("x");
    run_all();
    CHECK_TRACE("cx");
    finish(&loop);
}

static void reuse_own_slot(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("s");
    /* New tasks may take the memory of the one that runs; its id must not mean them. */
    for (int i = 1; i < 4; i++)
        ids[i] = i == 2 ? immediate("i") : timeout(1, "o");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            CHECK_NE(ids[i], ids[j]);
    CHECK_EQ(evl_clear_task(l, ids[0]), EVL_ENOENT);
}

TEST(task_stale_id_does_not_clear_its_successor) {
    open_loop();
    CHECK_EQ(evl_set_timeout(&loop, 0, reuse_own_slot, NULL, &ids[0]), 0);
    run_all();
    CHECK_TRACE("sioo");
    for (int i = 0; i < 4; i++)
        CHECK_EQ(evl_clear_task(&loop, ids[i]), EVL_ENOENT);
    CHECK_EQ(evl_set_immediate(&loop, reuse_own_slot, NULL, &ids[0]), 0);
    run_all();
    CHECK(strcmp(trace_text, "sioo") == 0 || strcmp(trace_text, "sooi") == 0); /* if slow */
    trace_reset();
    finish(&loop);
}

/* One slot used again and again: no id comes back, and none of the old ones means the new task. */
TEST(task_ids_are_not_reused) {
    enum { COUNT = 300000 };
    static evl_task_id old[COUNT / 1000];
    open_loop();
    evl_task_id first = immediate("x");
    CHECK_EQ(evl_clear_task(&loop, first), 0);
    for (int i = 0; i < COUNT; i++) {
        evl_task_id id;
        CHECK_EQ(evl_set_immediate(&loop, never_task, NULL, &id), 0);
        CHECK_NE(id, 0);
        CHECK_NE(id, first);
        if (i % 1000 == 0)
            old[i / 1000] = id;
        CHECK_EQ(evl_clear_task(&loop, id), 0);
    }
    immediate("l");
    CHECK_EQ(evl_clear_task(&loop, first), EVL_ENOENT);
    for (int i = 0; i < COUNT / 1000; i++)
        CHECK_EQ(evl_clear_task(&loop, old[i]), EVL_ENOENT);
    run_all();
    CHECK_TRACE("l");
    finish(&loop);
}

/* ---- Timeouts and intervals ------------------------------------------------------------------ */

TEST(task_timeouts_and_timers_share_one_order) {
    evl_timer_t a, b;
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &a), 0);
    CHECK_EQ(evl_timer_init(&loop, &b), 0);
    a.data = text("a");
    b.data = text("b");
    timeout(2, "1");
    CHECK_EQ(evl_timer_start(&a, trace_timer, 2, 0), 0);
    timeout(2, "2");
    timeout(1, "3");
    CHECK_EQ(evl_timer_start(&b, trace_timer, 2, 0), 0);
    CHECK_EQ(evl_set_timeout(&loop, 2, trace_task, text("4"), NULL), 0);
    run_all();
    CHECK_TRACE("31a2b4");
    finish(&loop);
}

static uint64_t due_ns;

static void not_early(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    CHECK_GE(evl_hrtime(), due_ns);
    trace("x");
}

static void busy_and_set(evl_loop_t *l, void *arg) {
    (void)arg;
    busy_ns(5 * MS);
    due_ns = evl_hrtime() + 6 * MS;
    CHECK_EQ(evl_set_timeout(l, 6, not_early, NULL, NULL), 0);
}

TEST(task_timeouts_are_never_early) {
    open_loop();
    test_sleep_ms(10);
    due_ns = evl_hrtime() + 5 * MS;
    CHECK_EQ(evl_set_timeout(&loop, 5, not_early, NULL, NULL), 0);
    run_all();
    CHECK_EQ(evl_set_immediate(&loop, busy_and_set, NULL, NULL), 0);
    run_all();
    CHECK_TRACE("xx");
    finish(&loop);
}

TEST(task_timeout_huge_does_not_run) {
    open_loop();
    evl_task_id a, b;
    CHECK_EQ(evl_set_timeout(&loop, UINT64_MAX, never_task, NULL, &a), 0);
    CHECK_EQ(evl_set_interval(&loop, UINT64_MAX, never_task, NULL, &b), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_clear_task(&loop, a), 0);
    CHECK_EQ(evl_clear_task(&loop, b), 0);
    run_all();
    finish(&loop);
}

TEST(task_timeout_keeps_the_loop_alive) {
    open_loop();
    CHECK_EQ(evl_loop_alive(&loop), 0);
    evl_task_id id = timeout(3600000, "t");
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_GT(evl_backend_timeout(&loop), 3000000);
    CHECK_EQ(evl_clear_task(&loop, id), 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    timeout(1, "t");
    run_all();
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_TRACE("t");
    finish(&loop);
}

static int interval_left;

static void interval_step(evl_loop_t *l, void *arg) {
    trace((const char *)arg);
    if (--interval_left == 0)
        CHECK_EQ(evl_clear_task(l, interval_id), 0);
}

TEST(task_interval_of_0_runs_once_an_iteration) {
    open_loop();
    mark_iterations();
    interval_left = 4;
    CHECK_EQ(evl_set_interval(&loop, 0, interval_step, text("v"), &interval_id), 0);
    run_all();
    CHECK_TRACE("v|v|v|v");
    finish(&loop);
}

TEST(task_interval_repeats_until_cleared) {
    open_loop();
    interval_left = 5;
    uint64_t start = evl_hrtime();
    CHECK_EQ(evl_set_interval(&loop, 2, interval_step, text("v"), &interval_id), 0);
    run_all();
    CHECK_GE(evl_hrtime() - start, 10 * MS);
    CHECK_TRACE("vvvvv");
    CHECK_EQ(evl_clear_task(&loop, interval_id), EVL_ENOENT);
    finish(&loop);
}

static void clear_own_interval(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("v");
    CHECK_EQ(evl_clear_task(l, interval_id), 0);
    CHECK_EQ(evl_clear_task(l, interval_id), EVL_ENOENT);
    /* These may take the interval's memory while its callback still runs. */
    timeout(0, "a");
    timeout(1, "b");
    immediate("c");
    CHECK_EQ(evl_clear_task(l, interval_id), EVL_ENOENT);
}

TEST(task_interval_cleared_in_its_own_callback) {
    open_loop();
    CHECK_EQ(evl_set_interval(&loop, 0, clear_own_interval, NULL, &interval_id), 0);
    run_all();
    CHECK_TRACE("vcab");
    CHECK_EQ(evl_loop_alive(&loop), 0);
    finish(&loop);
}

static void clear_interval(evl_loop_t *l, void *arg) {
    trace((const char *)arg);
    CHECK_EQ(evl_clear_task(l, interval_id), 0);
}

TEST(task_interval_cleared_by_another_task) {
    open_loop();
    CHECK_EQ(evl_set_interval(&loop, 0, trace_task, text("v"), &interval_id), 0);
    CHECK_EQ(evl_set_immediate(&loop, clear_interval, text("c"), NULL), 0);
    run_all();
    CHECK_TRACE("vc");
    /* Due in the same pass. */
    CHECK_EQ(evl_set_timeout(&loop, 0, clear_interval, text("c"), NULL), 0);
    CHECK_EQ(evl_set_interval(&loop, 0, trace_task, text("v"), &interval_id), 0);
    run_all();
    CHECK_TRACE("c");
    finish(&loop);
}

static void busy_interval(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("v");
    busy_ns(3 * MS);
    if (--interval_left == 0)
        CHECK_EQ(evl_clear_task(l, interval_id), 0);
}

TEST(task_interval_shorter_than_its_callback_starves_nothing) {
    open_loop();
    mark_iterations();
    interval_left = 3;
    CHECK_EQ(evl_set_interval(&loop, 1, busy_interval, NULL, &interval_id), 0);
    test_sleep_ms(5); /* late by several periods: it runs once */
    run_all();
    CHECK_TRACE("v|v|v");
    finish(&loop);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

TEST(task_null_callbacks_are_refused) {
    evl_task_id id = 77;
    open_loop();
    CHECK_EQ(evl_next_tick(&loop, NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_queue_microtask(&loop, NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_set_immediate(&loop, NULL, NULL, &id), EVL_EINVAL);
    CHECK_EQ(evl_set_timeout(&loop, 0, NULL, NULL, &id), EVL_EINVAL);
    CHECK_EQ(evl_set_interval(&loop, 0, NULL, NULL, &id), EVL_EINVAL);
    CHECK_EQ(evl_post(&loop, NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    finish(&loop);
}

TEST(task_ids_may_be_left_out) {
    open_loop();
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_set_timeout(&loop, 0, trace_task, text("t"), NULL), 0);
    run_all();
    CHECK_TRACE("ti");
    finish(&loop);
}

TEST(task_tasks_are_no_handles) {
    open_loop();
    evl_task_id id;
    immediate("i");
    CHECK_EQ(evl_set_interval(&loop, 3600000, never_task, NULL, &id), 0);
    evl_walk(&loop, walked, NULL);
    CHECK_TRACE("");
    CHECK_EQ(evl_clear_task(&loop, id), 0);
    run_all();
    finish(&loop);
}

static int start_of_kind(int kind) {
    evl_task_id id;
    switch (kind) {
    case 0:
        return evl_next_tick(&loop, trace_task, text("x"));
    case 1:
        return evl_queue_microtask(&loop, trace_task, text("x"));
    case 2:
        return evl_set_immediate(&loop, trace_task, text("x"), &id);
    case 3:
        return evl_set_timeout(&loop, 0, trace_task, text("x"), &id);
    default:
        return evl_post(&loop, trace_task, text("x"));
    }
}

/* Each call with its first or second allocation refused: EVL_ENOMEM and nothing queued, and the
 * next try succeeds. */
TEST(task_every_call_survives_a_failed_allocation) {
    int refused = 0;
    open_loop();
    for (int i = 0; i < 10000; i++) {
        int kind = i / 2 % 5;
        test_alloc_fail(1 + i % 2, 1);
        int result = start_of_kind(kind);
        test_alloc_fail(0, 0);
        if (result != 0) {
            CHECK_EQ(result, EVL_ENOMEM);
            CHECK_EQ(start_of_kind(kind), 0);
            refused++;
        }
    }
    CHECK_GT(refused, 100);
    run_all();
    CHECK_EQ(trace_length, 10000); /* none twice, none lost */
    CHECK_EQ(evl_loop_alive(&loop), 0);
    finish(&loop);
}

static void expect_next(evl_loop_t *l, void *arg) {
    static uintptr_t expected;
    (void)l;
    CHECK_EQ((uintptr_t)arg, expected);
    expected++;
}

/* The queue grows, and fails to, while it has wrapped around: what is in it stays, in order. */
TEST(task_queue_keeps_its_order_through_failed_growth) {
    uintptr_t queued = 0;
    open_loop();
    for (int round = 1; round < 12; round++) {
        for (int i = 0; i < round * 37; i++) {
            test_alloc_fail(1, 1);
            int result = evl_next_tick(&loop, expect_next, (void *)queued);
            test_alloc_fail(0, 0);
            if (result != 0) {
                CHECK_EQ(result, EVL_ENOMEM);
                CHECK_EQ(evl_next_tick(&loop, expect_next, (void *)queued), 0);
            }
            queued++;
        }
        run_all();
    }
    finish(&loop);
}

static void grow_while_draining(evl_loop_t *l, void *arg) {
    uintptr_t depth = (uintptr_t)arg;
    chain_left++;
    if (depth > 0) {
        CHECK_EQ(evl_next_tick(l, grow_while_draining, (void *)(depth - 1)), 0);
        CHECK_EQ(evl_next_tick(l, grow_while_draining, (void *)(depth - 1)), 0);
    }
}

TEST(task_queue_grows_while_it_is_drained) {
    open_loop();
    chain_left = 0;
    CHECK_EQ(evl_next_tick(&loop, grow_while_draining, (void *)(uintptr_t)14), 0);
    run_all();
    CHECK_EQ(chain_left, (1 << 15) - 1);
    finish(&loop);
}

/* ---- Cost ------------------------------------------------------------------------------------ */

static void chain_tick(evl_loop_t *l, void *arg) {
    if (--chain_left > 0)
        CHECK_EQ(evl_next_tick(l, chain_tick, arg), 0);
}

static void *run_on_small_stack(void *arg) {
    (void)arg;
    run_all();
    return NULL;
}

/* On a stack of 64 KiB, where a recursion would fall over. */
TEST(task_a_million_chained_ticks) {
    os_thread_t thread;
    open_loop();
    chain_left = 1000000;
    CHECK_EQ(evl_next_tick(&loop, chain_tick, NULL), 0);
    os_thread_start(&thread, test_slow() ? 1 << 20 : 1 << 16, run_on_small_stack, NULL);
    join_thread(thread);
    CHECK_EQ(chain_left, 0);
    finish(&loop);
}

TEST(task_a_million_queued_ticks) {
    open_loop();
    for (uintptr_t i = 0; i < 1000000; i++)
        CHECK_EQ(evl_next_tick(&loop, expect_next, (void *)i), 0);
    run_all();
    finish(&loop);
}

static void count_task(evl_loop_t *l, void *arg) {
    (void)l;
    ++*(int *)arg;
}

static void one_of_each(int *count) {
    evl_task_id cleared;
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(evl_next_tick(&loop, count_task, count), 0);
        CHECK_EQ(evl_queue_microtask(&loop, count_task, count), 0);
        CHECK_EQ(evl_set_immediate(&loop, count_task, count, NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, 0, count_task, count, NULL), 0);
        CHECK_EQ(evl_set_interval(&loop, 1000, count_task, count, &cleared), 0);
        CHECK_EQ(evl_clear_task(&loop, cleared), 0);
    }
    run_all();
}

TEST(task_nothing_is_allocated_once_warm) {
    int count = 0;
    open_loop();
    one_of_each(&count);
    size_t allocations = test_alloc_calls();
    for (int i = 0; i < 200; i++)
        one_of_each(&count);
    CHECK_EQ(test_alloc_calls(), allocations);
    CHECK_EQ(count, 201 * 200);
    finish(&loop);
}

/* Memory is given back when the loop closes, also that of a great many tasks. */
TEST(task_memory_is_freed_with_the_loop) {
    int count = 0;
    open_loop();
    for (int i = 0; i < 20000; i++) {
        CHECK_EQ(evl_set_immediate(&loop, count_task, &count, NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, 0, count_task, &count, NULL), 0);
        CHECK_EQ(evl_next_tick(&loop, count_task, &count), 0);
    }
    run_all();
    CHECK_EQ(count, 60000);
    finish(&loop);
    CHECK_EQ(test_alloc_live(), 0);
}

static void stop_with_tick(evl_loop_t *l, void *arg) {
    (void)arg;
    trace("S");
    evl_stop(l);
    tick("t");
    microtask("m");
}

TEST(task_queues_are_drained_before_a_stopped_run_returns) {
    open_loop();
    timeout(3600000, "never");
    CHECK_EQ(evl_set_timeout(&loop, 0, stop_with_tick, NULL, NULL), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("Stm");
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
}

static evl_loop_t second;

static void tick_on_second(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    trace("a");
    CHECK_EQ(evl_next_tick(&second, trace_task, text("b")), 0);
    tick("c");
}

TEST(task_queues_belong_to_their_loop) {
    open_loop();
    CHECK_EQ(evl_loop_init(&second), 0);
    CHECK_EQ(evl_next_tick(&loop, tick_on_second, NULL), 0);
    run_all();
    CHECK_TRACE("ac");
    CHECK_EQ(evl_run(&second, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("b");
    CHECK_EQ(evl_loop_close(&second), 0);
    finish(&loop);
}
