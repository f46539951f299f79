/* The loop: phases, modes, stop, liveness, closing, destroy, fork, slices, configuration. */
#include "trace.h"

#include <signal.h>
#if !defined(_WIN32)
#include <sys/wait.h>
#endif

#define MS UINT64_C(1000000)

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

static void new_timer(evl_timer_t *timer, const char *name) {
    CHECK_EQ(evl_timer_init(&loop, timer), 0);
    timer->data = text(name);
}

static int has_all(const char *letters) {
    for (; *letters != '\0'; letters++)
        if (strchr(trace_text, *letters) == NULL)
            return 0;
    return 1;
}

/* Two connected sockets, nonblocking. */
static void socket_pair(evl_os_sock_t sockets[2]) {
    os_socketpair(sockets);
    for (int i = 0; i < 2; i++)
        os_nonblock(sockets[i]);
}

static void close_pair(const evl_os_sock_t sockets[2]) {
    CHECK_EQ(os_close(sockets[0]), 0);
    CHECK_EQ(os_close(sockets[1]), 0);
}

/* ---- The phases ------------------------------------------------------------------------------ */

/* One thing for each phase, each saying its letter; the prepare handle sets up what is to come in
 * its iteration. What happens in the poll phase is of one kind at a time. */
typedef enum { POLL_ASYNC, POLL_POST, POLL_IO } poll_kind_t;

static struct {
    poll_kind_t kind;
    int iterations; /* until everything is closed; -1: never */
    char stop_at;   /* the letter that calls evl_stop; 0: none */
    evl_timer_t timer, closer;
    int closer_open;
    evl_idle_t idle;
    evl_prepare_t prepare;
    evl_check_t check;
    evl_async_t async;
    evl_poll_t poll;
    evl_os_sock_t sockets[2];
} phases;

static void phase(const char *letter) {
    trace(letter);
    if (phases.stop_at == *letter)
        evl_stop(&loop);
}

static void phase_closed(evl_handle_t *handle) {
    (void)handle;
    phases.closer_open = 0;
    phase("X");
}

static void phase_task(evl_loop_t *l, void *arg) {
    CHECK_PTR(l, &loop);
    phase((const char *)arg);
}

static void phase_timer(evl_timer_t *timer) {
    phase("T");
    if (phases.iterations == 0) {
        evl_walk(&loop, close_if_open, NULL);
        return;
    }
    phases.iterations--;
    CHECK_EQ(evl_timer_start(timer, phase_timer, 0, 0), 0);
}

static void phase_idle(evl_idle_t *idle) {
    (void)idle;
    phase("I");
}

static void phase_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    phase("P");
    if (phases.kind == POLL_ASYNC)
        CHECK_EQ(evl_async_send(&phases.async), 0);
    if (phases.kind == POLL_POST)
        CHECK_EQ(evl_post(&loop, phase_task, text("p")), 0);
    CHECK_EQ(evl_set_immediate(&loop, phase_task, text("M"), NULL), 0);
    if (!phases.closer_open) {
        phases.closer_open = 1;
        CHECK_EQ(evl_timer_init(&loop, &phases.closer), 0);
        evl_close((evl_handle_t *)&phases.closer, phase_closed);
    }
}

static void phase_check(evl_check_t *check) {
    (void)check;
    phase("C");
}

static void phase_async(evl_async_t *async) {
    (void)async;
    phase("p");
}

static void phase_poll(evl_poll_t *poll, int status, int events) {
    (void)poll;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, EVL_READABLE);
    phase("p");
}

static void phases_begin(poll_kind_t kind) {
    open_loop();
    memset(&phases, 0, sizeof(phases));
    phases.kind = kind;
    phases.iterations = -1;
    new_timer(&phases.timer, "");
    CHECK_EQ(evl_idle_init(&loop, &phases.idle), 0);
    CHECK_EQ(evl_prepare_init(&loop, &phases.prepare), 0);
    CHECK_EQ(evl_check_init(&loop, &phases.check), 0);
    CHECK_EQ(evl_async_init(&loop, &phases.async, phase_async), 0);
    socket_pair(phases.sockets);
    CHECK_EQ(evl_poll_init_socket(&loop, &phases.poll, phases.sockets[0]), 0);
    CHECK_EQ(os_send(phases.sockets[1], "x", 1), 1);
    if (kind == POLL_IO)
        CHECK_EQ(evl_poll_start(&phases.poll, EVL_READABLE, phase_poll), 0);
    /* In an order that is not that of the phases. */
    CHECK_EQ(evl_check_start(&phases.check, phase_check), 0);
    CHECK_EQ(evl_timer_start(&phases.timer, phase_timer, 0, 0), 0);
    CHECK_EQ(evl_prepare_start(&phases.prepare, phase_prepare), 0);
    CHECK_EQ(evl_idle_start(&phases.idle, phase_idle), 0);
}

static void phases_end(void) {
    phases.stop_at = 0;
    phases.iterations = 0;
    finish(&loop);
    close_pair(phases.sockets);
    trace_reset();
}

TEST(loop_phase_order_in_default_mode) {
    for (int kind = 0; kind < 3; kind++) {
        phases_begin((poll_kind_t)kind);
        phases.iterations = 3;
        run_all();
        CHECK_TRACE("T"       /* due timers, once */
                    "IPpCMXT" /* an iteration */
                    "IPpCMXT"
                    "IPpCMXT");
        phases_end();
    }
}

TEST(loop_phase_order_in_once_mode) {
    for (int kind = 0; kind < 3; kind++) {
        phases_begin((poll_kind_t)kind);
        for (int i = 0; i < 3; i++) {
            CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
            CHECK_TRACE("IPpCMXT"); /* no timers before */
        }
        phases_end();
    }
}

TEST(loop_phase_order_in_nowait_mode) {
    for (int kind = 0; kind < 3; kind++) {
        phases_begin((poll_kind_t)kind);
        for (int i = 0; i < 3; i++) {
            CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
            CHECK_TRACE("IPpCMXT");
        }
        phases_end();
    }
}

TEST(loop_phase_order_in_a_slice) {
    for (int kind = 0; kind < 3; kind++) {
        phases_begin((poll_kind_t)kind);
        phases.iterations = 2;
        CHECK_EQ(evl_run_for(&loop, 10000 * MS), 0);
        if (trace_text[0] == 'T')
            CHECK_STR(trace_text, "TIPpCMXTIPpCMXT");
        else
            CHECK_STR(trace_text, "IPpCMXTIPpCMXTIPpCMXT");
        phases_end();
    }
}

TEST(loop_phase_order_with_each_mode_in_turn) {
    phases_begin(POLL_ASYNC);
    phases.iterations = 4;
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("IPpCMXTIPpCMXT");
    run_all();
    CHECK_TRACE("TIPpCMXTIPpCMXT");
    phases_end();
}

static void start_timer_from_idle(evl_idle_t *idle) {
    trace("I");
    CHECK_EQ(evl_idle_stop(idle), 0);
    CHECK_EQ(evl_timer_start((evl_timer_t *)idle->data, trace_timer, 0, 0), 0);
}

/* The due timers that come before the first iteration come once, not before each. */
TEST(loop_timers_run_only_at_the_end_of_iterations_after_the_first) {
    evl_timer_t timer, late;
    evl_idle_t idle;
    open_loop();
    new_timer(&timer, "t");
    new_timer(&late, "l");
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    idle.data = &timer;
    CHECK_EQ(evl_idle_start(&idle, start_timer_from_idle), 0);
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("M"), NULL), 0);
    run_all();
    CHECK_TRACE("IMt");
    finish(&loop);
}

/* ---- Pending callbacks ----------------------------------------------------------------------- */

#ifndef EVLOOP_NO_NET

static evl_tcp_t tcp;
static evl_write_t write_request;
static int writes_left;
static char one_byte[] = "w";

static void write_again(evl_write_t *request, int status) {
    CHECK_EQ(status, 0);
    trace("w");
    if (--writes_left > 0) {
        evl_buf_t buf = evl_buf_init(one_byte, 1);
        CHECK_EQ(evl_write(request, request->handle, &buf, 1, write_again), 0);
    }
}

static void write_once(int count) {
    evl_buf_t buf = evl_buf_init(one_byte, 1);
    writes_left = count;
    CHECK_EQ(evl_write(&write_request, (evl_stream_t *)&tcp, &buf, 1, write_again), 0);
}

static void letter_idle(evl_idle_t *idle) {
    trace("I");
    if (idle->data != NULL)
        write_once((int)(intptr_t)idle->data);
    idle->data = NULL;
}

static void letter_check(evl_check_t *check) {
    trace("C");
    if (check->data != NULL)
        write_once((int)(intptr_t)check->data);
    check->data = NULL;
}

static evl_idle_t pending_idle;
static evl_check_t pending_check;
static evl_os_sock_t pending_fds[2];

static void pending_begin(int from_idle, int from_check) {
    open_loop();
    os_tcp_pair(pending_fds);
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, pending_fds[0]), 0);
    CHECK_EQ(evl_idle_init(&loop, &pending_idle), 0);
    CHECK_EQ(evl_idle_start(&pending_idle, letter_idle), 0);
    CHECK_EQ(evl_check_init(&loop, &pending_check), 0);
    CHECK_EQ(evl_check_start(&pending_check, letter_check), 0);
    pending_idle.data = (void *)(intptr_t)from_idle;
    pending_check.data = (void *)(intptr_t)from_check;
}

static void pending_end(void) {
    finish(&loop);
    CHECK_EQ(os_close(pending_fds[1]), 0);
    trace_reset();
}

TEST(loop_pending_runs_first_and_again_after_the_poll) {
    pending_begin(0, 1); /* written in the check phase: first thing in the next iteration */
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("IC");
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("wIC");
    pending_end();
    pending_begin(1, 0); /* written in the idle phase: right after the poll */
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("IwC");
    pending_end();
}

TEST(loop_pending_after_the_poll_has_eight_rounds) {
    pending_begin(30, 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("IwwwwwwwwC");
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("wIwwwwwwwwC");
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("wIwwwwwwwwC");
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("wIwwwC");
    pending_end();
}

TEST(loop_pending_keeps_the_loop_from_sleeping) {
    pending_begin(0, 0);
    CHECK_EQ(evl_idle_stop(&pending_idle), 0);
    write_once(18);
    for (int i = 0; i < 2; i++) { /* there is nothing else that could end a sleep */
        CHECK_EQ(evl_loop_alive(&loop), 1);
        CHECK_EQ(evl_backend_timeout(&loop), 0);
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
        CHECK_TRACE("wwwwwwwwwC");
    }
    pending_end();
}

#endif

/* ---- Stop ------------------------------------------------------------------------------------ */

TEST(loop_stop_before_run) {
    phases_begin(POLL_ASYNC);
    for (int mode = 0; mode < 3; mode++) {
        evl_stop(&loop);
        evl_stop(&loop);
        CHECK_NE(evl_run(&loop, (evl_run_mode)mode), 0);
        CHECK_TRACE("");                             /* not a single turn, no timers */
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0); /* it was good for one run */
        CHECK_TRACE("IPpCMXT");
    }
    evl_stop(&loop);
    CHECK_NE(evl_run_for(&loop, 1000 * MS), 0);
    CHECK_TRACE("");
    phases_end();
}

TEST(loop_stop_in_each_phase) {
    for (int kind = 0; kind < 3; kind++)
        for (const char *letter = "TIPpCMX"; *letter != '\0'; letter++) {
            phases_begin((poll_kind_t)kind);
            phases.stop_at = *letter;
            CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
            /* The iteration is completed; in the timers before the first there is none. */
            CHECK_TRACE(*letter == 'T' ? "T" : "TIPpCMXT");
            CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
            CHECK_TRACE("IPpCMXT");
            phases.stop_at = 0;
            CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0); /* and it does not linger */
            CHECK_TRACE("IPpCMXT");
            phases_end();
        }
}

static void stop_from_prepare(evl_prepare_t *prepare) {
    calls++;
    evl_stop(prepare->loop);
}

TEST(loop_stop_before_the_poll_keeps_it_from_sleeping) {
    evl_async_t async;
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, stop_from_prepare), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(calls, 2);
    evl_stop(&loop);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 2);
    finish(&loop);
}

/* ---- Refused from within --------------------------------------------------------------------- */

static void try_to_run(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), EVL_EBUSY);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), EVL_EBUSY);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), EVL_EBUSY);
    CHECK_EQ(evl_run_for(&loop, 1000), EVL_EBUSY);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    CHECK_EQ(evl_loop_destroy(&loop, 10), EVL_EBUSY);
    calls++;
}

static void try_in_task(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    try_to_run();
}

static void try_in_timer(evl_timer_t *timer) {
    (void)timer;
    try_to_run();
}

static void try_in_idle(evl_idle_t *idle) {
    try_to_run();
    CHECK_EQ(evl_idle_stop(idle), 0);
}

static void try_in_close(evl_handle_t *handle) {
    (void)handle;
    try_to_run();
}

static void try_in_async(evl_async_t *async) {
    try_to_run();
    evl_close((evl_handle_t *)async, try_in_close);
}

TEST(loop_run_in_a_callback_is_refused) {
    evl_timer_t timer;
    evl_idle_t idle;
    evl_async_t async;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, try_in_timer, 0, 0), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_idle_start(&idle, try_in_idle), 0);
    CHECK_EQ(evl_async_init(&loop, &async, try_in_async), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_EQ(evl_next_tick(&loop, try_in_task, NULL), 0);
    CHECK_EQ(evl_queue_microtask(&loop, try_in_task, NULL), 0);
    CHECK_EQ(evl_set_immediate(&loop, try_in_task, NULL, NULL), 0);
    CHECK_EQ(evl_post(&loop, try_in_task, NULL), 0);
    run_all();
    CHECK_EQ(calls, 8);
    CHECK_EQ(evl_set_timeout(&loop, 0, try_in_task, NULL, NULL), 0);
    evl_set_microtask_checkpoint(&loop, try_in_task, NULL);
    CHECK_EQ(evl_run_for(&loop, 1000 * MS), 0);
    CHECK_GE(calls, 10);
    evl_set_microtask_checkpoint(&loop, NULL, NULL);
    finish(&loop);
}

static evl_loop_t inner;

static void run_inner(evl_loop_t *l, void *arg) {
    (void)l;
    (void)arg;
    trace("(");
    CHECK_EQ(evl_set_immediate(&inner, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_next_tick(&loop, trace_task, text("t")), 0);
    CHECK_EQ(evl_run(&inner, EVL_RUN_DEFAULT), 0);
    trace(")");
}

TEST(loop_run_of_another_loop_in_a_callback_is_fine) {
    open_loop();
    CHECK_EQ(evl_loop_init(&inner), 0);
    CHECK_EQ(evl_set_immediate(&loop, run_inner, NULL, NULL), 0);
    run_all();
    CHECK_TRACE("(i)t");
    CHECK_EQ(evl_loop_close(&inner), 0);
    finish(&loop);
}

TEST(loop_run_refuses_unknown_modes) {
    open_loop();
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_run(&loop, (evl_run_mode)3), EVL_EINVAL);
    CHECK_TRACE("");
    run_all();
    CHECK_TRACE("i");
    finish(&loop);
}

/* ---- Liveness -------------------------------------------------------------------------------- */

TEST(loop_without_work_returns_at_once) {
    open_loop();
    CHECK_EQ(evl_loop_alive(&loop), 0);
    for (int mode = 0; mode < 3; mode++)
        CHECK_EQ(evl_run(&loop, (evl_run_mode)mode), 0);
    CHECK_EQ(evl_run_for(&loop, UINT64_MAX), 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    finish(&loop);
}

static void never_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    test_fail(__FILE__, __LINE__, "this prepare must not run");
}

/* A loop that nothing keeps alive does not turn, whatever is active on it. */
TEST(loop_with_unreferenced_handles_only_does_not_turn) {
    evl_prepare_t prepare;
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, never_prepare), 0);
    evl_unref((evl_handle_t *)&prepare);
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, never_timer, 0, 0), 0);
    evl_unref((evl_handle_t *)&timer);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    for (int mode = 0; mode < 3; mode++)
        CHECK_EQ(evl_run(&loop, (evl_run_mode)mode), 0);
    CHECK_EQ(evl_is_active((evl_handle_t *)&prepare), 1);
    CHECK_EQ(evl_prepare_stop(&prepare), 0);
    finish(&loop);
}

TEST(loop_ref_and_unref_are_idempotent) {
    evl_timer_t timer;
    evl_handle_t *handle = (evl_handle_t *)&timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_has_ref(handle), 1); /* from the start */
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 3600000, 0), 0);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    for (int i = 0; i < 3; i++)
        evl_unref(handle);
    CHECK_EQ(evl_has_ref(handle), 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    for (int i = 0; i < 3; i++)
        evl_ref(handle);
    CHECK_EQ(evl_has_ref(handle), 1);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    evl_unref(handle);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    /* Stopped and started, it stays unreferenced. */
    CHECK_EQ(evl_timer_stop(&timer), 0);
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 3600000, 0), 0);
    CHECK_EQ(evl_has_ref(handle), 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    /* Referenced and unreferenced while stopped: the counts stay even. */
    CHECK_EQ(evl_timer_stop(&timer), 0);
    evl_ref(handle);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    evl_unref(handle);
    evl_ref(handle);
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 1, 0), 0);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    run_all();
    CHECK_TRACE("t");
    CHECK_EQ(evl_loop_alive(&loop), 0);
    finish(&loop);
}

static void unref_self(evl_timer_t *timer) {
    trace_timer(timer);
    evl_unref((evl_handle_t *)timer);
}

TEST(loop_unref_in_a_callback_ends_the_run) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, unref_self, 1, 3600000), 0);
    run_all();
    CHECK_TRACE("t");
    finish(&loop);
}

TEST(loop_closing_handle_keeps_the_loop_alive_even_unreferenced) {
    evl_timer_t a, b;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    evl_unref((evl_handle_t *)&a);
    evl_close((evl_handle_t *)&a, trace_close);
    evl_close((evl_handle_t *)&b, trace_close);
    evl_unref((evl_handle_t *)&b);
    evl_ref((evl_handle_t *)&b);
    evl_unref((evl_handle_t *)&b);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(trace_length, 2);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_loop_close(&loop), 0);
}

TEST(loop_returns_whether_it_is_alive) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 3600000, 0), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_NE(evl_run_for(&loop, MS), 0);
    CHECK_TRACE("");
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 2, 0), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_TRACE("t");
    finish(&loop);
}

TEST(loop_backend_timeout) {
    evl_timer_t timer;
    evl_async_t async;
    evl_idle_t idle;
    open_loop();
    CHECK_EQ(evl_backend_timeout(&loop), 0); /* nothing to wait for */
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_backend_timeout(&loop), -1);
    new_timer(&timer, "");
    evl_update_time(&loop);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 60000, 0), 0);
    CHECK_GE(evl_backend_timeout(&loop), 50000);
    CHECK_LE(evl_backend_timeout(&loop), 61000);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_idle_start(&idle, NULL), EVL_EINVAL);
    evl_close((evl_handle_t *)&idle, NULL);
    CHECK_EQ(evl_backend_timeout(&loop), 0); /* a close callback is due */
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_GT(evl_backend_timeout(&loop), 50000);
    CHECK_EQ(evl_next_tick(&loop, trace_task, text("")), 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_queue_microtask(&loop, trace_task, text("")), 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    finish(&loop);
}

/* ---- Time ------------------------------------------------------------------------------------ */

TEST(loop_now_is_cached) {
    open_loop();
    uint64_t now = evl_now_ns(&loop);
    CHECK_EQ(evl_now(&loop), now / MS);
    CHECK_LE(now, evl_hrtime());
    test_sleep_ms(3);
    CHECK_EQ(evl_now_ns(&loop), now);
    uint64_t before = evl_hrtime();
    evl_update_time(&loop);
    CHECK_GE(evl_now_ns(&loop), before);
    CHECK_LE(evl_now_ns(&loop), evl_hrtime());
    now = evl_now_ns(&loop);
    test_sleep_ms(2);
    run_all(); /* also a run that has nothing to do reads it */
    CHECK_GT(evl_now_ns(&loop), now);
    finish(&loop);
}

static uint64_t polled_ns;

static void now_in_check(evl_check_t *check) {
    polled_ns = evl_now_ns(&loop);
    busy_ns(3 * MS);
    CHECK_EQ(evl_now_ns(&loop), polled_ns); /* stays, however long it takes */
    CHECK_EQ(evl_check_stop(check), 0);
}

static void now_in_timer(evl_timer_t *timer) {
    if (polled_ns == 0)
        return;
    CHECK_GE(evl_now_ns(&loop), polled_ns + 3 * MS); /* read anew for the timers */
    CHECK_EQ(evl_timer_stop(timer), 0);
    trace("t");
}

TEST(loop_now_stays_within_a_phase) {
    evl_check_t check;
    evl_timer_t timer;
    open_loop();
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, now_in_check), 0);
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, now_in_timer, 1, 1), 0);
    uint64_t start = evl_hrtime();
    run_all();
    CHECK_TRACE("t");
    CHECK_GE(polled_ns, start); /* read after the sleep */
    finish(&loop);
}

/* ---- Walk ------------------------------------------------------------------------------------ */

static void trace_walked(evl_handle_t *handle, void *arg) {
    CHECK_PTR(arg, &calls);
    trace((const char *)handle->data);
}

TEST(loop_walk_visits_all_also_closing_ones) {
    evl_timer_t a, b, c;
    open_loop();
    evl_walk(&loop, trace_walked, &calls);
    CHECK_TRACE("");
    new_timer(&a, "a");
    new_timer(&b, "b");
    new_timer(&c, "c");
    evl_walk(&loop, trace_walked, &calls);
    CHECK_TRACE("abc");
    evl_close((evl_handle_t *)&b, NULL);
    evl_walk(&loop, trace_walked, &calls);
    CHECK_EQ(has_all("abc"), 1);
    CHECK_EQ(trace_length, 3);
    trace_reset();
    run_all();
    evl_walk(&loop, trace_walked, &calls);
    CHECK_TRACE("ac");
    finish(&loop);
}

static evl_timer_t walked_timers[10];

static void close_all_in_first(evl_handle_t *handle, void *arg) {
    (void)arg;
    trace("w");
    CHECK_PTR(handle->loop, &loop);
    for (int i = 0; i < 10; i++)
        close_if_open((evl_handle_t *)&walked_timers[i], NULL);
}

static void init_in_walk(evl_handle_t *handle, void *arg) {
    evl_timer_t *fresh = (evl_timer_t *)arg;
    (void)handle;
    if (calls++ == 0)
        new_timer(fresh, "n");
    CHECK_LT(calls, 100); /* it ends */
}

static void walk_in_walk(evl_handle_t *handle, void *arg) {
    (void)handle;
    (void)arg;
    trace("<");
    evl_walk(&loop, trace_walked, &calls);
    trace(">");
}

TEST(loop_walk_may_change_the_handles) {
    evl_timer_t fresh;
    open_loop();
    for (int i = 0; i < 10; i++)
        new_timer(&walked_timers[i], "w");
    evl_walk(&loop, init_in_walk, &fresh);
    CHECK(calls == 10 || calls == 11);
    evl_close((evl_handle_t *)&fresh, NULL);
    run_all();
    evl_walk(&loop, close_all_in_first, NULL);
    CHECK_TRACE("wwwwwwwwww"); /* they are visited though they are closing by now */
    run_all();
    CHECK_EQ(evl_loop_close(&loop), 0);
    open_loop();
    new_timer(&walked_timers[0], "a");
    new_timer(&walked_timers[1], "b");
    evl_walk(&loop, walk_in_walk, NULL);
    CHECK_TRACE("<ab><ab>");
    finish(&loop);
}

static void walk_from_close(evl_handle_t *handle) {
    (void)handle;
    trace("x");
    evl_walk(&loop, trace_walked, &calls);
}

TEST(loop_walk_from_a_close_callback_leaves_out_the_closed_one) {
    evl_timer_t a, b;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    evl_close((evl_handle_t *)&a, walk_from_close);
    run_all();
    CHECK_TRACE("xb");
    finish(&loop);
}

/* ---- Closing --------------------------------------------------------------------------------- */

TEST(loop_close_runs_the_callback_once_and_later) {
    evl_timer_t timer;
    evl_handle_t *handle = (evl_handle_t *)&timer;
    open_loop();
    new_timer(&timer, "x");
    CHECK_EQ(evl_is_closing(handle), 0);
    evl_close(handle, trace_close);
    CHECK_TRACE(""); /* not before it returns */
    CHECK_EQ(evl_is_closing(handle), 1);
    evl_close(handle, never_close); /* does nothing */
    run_all();
    CHECK_TRACE("x");
    CHECK_EQ(evl_is_closing(handle), 1); /* also afterwards */
    run_all();
    CHECK_TRACE("");
    finish(&loop);
}

static void close_twice(evl_timer_t *timer) {
    evl_close((evl_handle_t *)timer, trace_close);
    evl_close((evl_handle_t *)timer, never_close);
}

static void close_again_while_closing(evl_handle_t *handle) {
    trace("x");
    CHECK_EQ(evl_is_closing(handle), 1);
    CHECK_EQ(evl_is_active(handle), 0);
    evl_close(handle, never_close);
}

TEST(loop_close_twice_in_callbacks) {
    evl_timer_t a, b;
    open_loop();
    new_timer(&a, "a");
    new_timer(&b, "b");
    CHECK_EQ(evl_timer_start(&a, close_twice, 0, 1), 0);
    evl_close((evl_handle_t *)&b, close_again_while_closing);
    run_all();
    CHECK_EQ(trace_length, 2);
    CHECK_EQ(evl_loop_close(&loop), 0);
}

static evl_timer_t next_to_close;

static void close_next(evl_handle_t *handle) {
    trace_close(handle);
    evl_close((evl_handle_t *)&next_to_close, trace_close);
}

static void mark_iteration(evl_prepare_t *prepare) {
    (void)prepare;
    trace("|");
}

/* A handle closed in the close phase waits for the next one. */
TEST(loop_close_in_a_close_callback_waits_for_the_next_iteration) {
    evl_timer_t timer;
    evl_prepare_t prepare;
    open_loop();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, mark_iteration), 0);
    evl_unref((evl_handle_t *)&prepare);
    new_timer(&timer, "a");
    new_timer(&next_to_close, "b");
    evl_close((evl_handle_t *)&timer, close_next);
    run_all();
    CHECK_TRACE("|a|b");
    finish(&loop);
}

static void init_again(evl_handle_t *handle) {
    trace("x");
    memset(handle, 0xa5, sizeof(evl_timer_t));
    if (++calls < 5) { /* the memory is ours: for a new handle, at once */
        new_timer((evl_timer_t *)handle, "t");
        evl_close(handle, init_again);
    }
}

TEST(loop_memory_is_the_users_in_the_close_callback) {
    evl_timer_t timer;
    unsigned char expected[sizeof(timer)];
    open_loop();
    new_timer(&timer, "t");
    evl_close((evl_handle_t *)&timer, init_again);
    run_all();
    CHECK_TRACE("xxxxx");
    memset(expected, 0xa5, sizeof(expected));
    CHECK_MEM(&timer, expected, sizeof(expected));
    finish(&loop);
}

typedef union {
    evl_handle_t handle;
    evl_timer_t timer;
    evl_idle_t idle;
    evl_prepare_t prepare;
    evl_check_t check;
    evl_async_t async;
    evl_poll_t poll;
} any_t;

static void poison_any(evl_handle_t *handle) {
    memset(handle, 0xa5, sizeof(any_t));
    calls++;
}

static void any_idle(evl_idle_t *idle) {
    (void)idle;
}

static void any_prepare(evl_prepare_t *prepare) {
    (void)prepare;
}

static void any_check(evl_check_t *check) {
    (void)check;
}

static void any_async(evl_async_t *async) {
    (void)async;
}

static void any_poll(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
}

static void any_timer(evl_timer_t *timer) {
    (void)timer;
}

/* Makes and starts a handle of each of six kinds. */
static void start_any(any_t *any, int kind, evl_os_sock_t fd) {
    switch (kind) {
    case 0:
        CHECK_EQ(evl_timer_init(&loop, &any->timer), 0);
        CHECK_EQ(evl_timer_start(&any->timer, any_timer, 0, 1), 0);
        break;
    case 1:
        CHECK_EQ(evl_idle_init(&loop, &any->idle), 0);
        CHECK_EQ(evl_idle_start(&any->idle, any_idle), 0);
        break;
    case 2:
        CHECK_EQ(evl_prepare_init(&loop, &any->prepare), 0);
        CHECK_EQ(evl_prepare_start(&any->prepare, any_prepare), 0);
        break;
    case 3:
        CHECK_EQ(evl_check_init(&loop, &any->check), 0);
        CHECK_EQ(evl_check_start(&any->check, any_check), 0);
        break;
    case 4:
        CHECK_EQ(evl_async_init(&loop, &any->async, any_async), 0);
        CHECK_EQ(evl_async_send(&any->async), 0);
        break;
    default:
        CHECK_EQ(evl_poll_init_socket(&loop, &any->poll, fd), 0);
        CHECK_EQ(evl_poll_start(&any->poll, EVL_WRITABLE | EVL_READABLE, any_poll), 0);
    }
}

/* Once the close callback of a handle has begun, the library does not touch its memory. */
TEST(loop_poisoned_memory_is_not_touched) {
    enum { KINDS = 6 };
    static any_t handles[3][KINDS];
    evl_os_sock_t sockets[2], others[2];
    unsigned char expected[sizeof(any_t)];
    memset(expected, 0xa5, sizeof(expected));
    open_loop();
    socket_pair(sockets);
    socket_pair(others);
    for (int kind = 0; kind < KINDS; kind++) {
        start_any(&handles[0][kind], kind, others[0]);
        start_any(&handles[1][kind], kind, sockets[0]); /* between two that stay */
        start_any(&handles[2][kind], kind, others[1]);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        if (round == 0)
            CHECK_EQ(os_send(sockets[1], "x", 1), 1);
        for (int kind = 0; kind < KINDS; kind++)
            evl_close(&handles[1][kind].handle, poison_any);
        for (int i = 0; i < 5; i++) {
            CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
            for (int kind = 0; kind < KINDS; kind++)
                CHECK_MEM(&handles[1][kind], expected, sizeof(expected));
        }
        CHECK_EQ(calls, (round + 1) * KINDS);
        for (int kind = 0; kind < KINDS; kind++)
            start_any(&handles[1][kind], kind, sockets[0]);
    }
    finish(&loop);
    close_pair(sockets);
    close_pair(others);
}

static any_t cross[2][6];
static int cross_killer, cross_victim;

static void cross_kill(void) {
    calls++;
    if (!evl_is_closing(&cross[1][cross_victim].handle)) {
        evl_close(&cross[1][cross_victim].handle, NULL);
        evl_close(&cross[0][cross_killer].handle, NULL);
    }
}

static void cross_timer(evl_timer_t *timer) {
    (void)timer;
    cross_kill();
}

static void cross_idle(evl_idle_t *idle) {
    (void)idle;
    cross_kill();
}

static void cross_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    cross_kill();
}

static void cross_check(evl_check_t *check) {
    (void)check;
    cross_kill();
}

static void cross_async(evl_async_t *async) {
    (void)async;
    cross_kill();
}

static void cross_poll(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
    cross_kill();
}

/* Each kind closes itself and one of each kind from its callback; nothing of either runs after. */
TEST(loop_each_kind_closes_itself_and_each_other_kind) {
    evl_os_sock_t sockets[2];
    socket_pair(sockets);
    open_loop();
    for (cross_killer = 0; cross_killer < 6; cross_killer++)
        for (cross_victim = 0; cross_victim < 6; cross_victim++) {
            any_t *killer = &cross[0][cross_killer];
            start_any(&cross[1][cross_victim], cross_victim, sockets[1]);
            calls = 0;
            switch (cross_killer) {
            case 0:
                CHECK_EQ(evl_timer_init(&loop, &killer->timer), 0);
                CHECK_EQ(evl_timer_start(&killer->timer, cross_timer, 0, 1), 0);
                break;
            case 1:
                CHECK_EQ(evl_idle_init(&loop, &killer->idle), 0);
                CHECK_EQ(evl_idle_start(&killer->idle, cross_idle), 0);
                break;
            case 2:
                CHECK_EQ(evl_prepare_init(&loop, &killer->prepare), 0);
                CHECK_EQ(evl_prepare_start(&killer->prepare, cross_prepare), 0);
                break;
            case 3:
                CHECK_EQ(evl_check_init(&loop, &killer->check), 0);
                CHECK_EQ(evl_check_start(&killer->check, cross_check), 0);
                break;
            case 4:
                CHECK_EQ(evl_async_init(&loop, &killer->async, cross_async), 0);
                CHECK_EQ(evl_async_send(&killer->async), 0);
                break;
            default:
                CHECK_EQ(evl_poll_init_socket(&loop, &killer->poll, sockets[0]), 0);
                CHECK_EQ(evl_poll_start(&killer->poll, EVL_WRITABLE, cross_poll), 0);
            }
            for (int i = 0; evl_run(&loop, EVL_RUN_NOWAIT) != 0; i++)
                CHECK_LT(i, 100000);
            CHECK_EQ(calls, 1);
        }
    finish(&loop);
    close_pair(sockets);
}

/* ---- evl_loop_close -------------------------------------------------------------------------- */

static void trace_iteration(void) {
    evl_timer_t timer;
    new_timer(&timer, "t");
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 0, 0), 0);
    while (trace_length == 0)
        CHECK_GE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("t");
    evl_close((evl_handle_t *)&timer, NULL);
    CHECK_GE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
}

/* Refused, nothing changed, and the loop still works. */
static void check_busy(void) {
    evl_loop_t before;
    memcpy(&before, &loop, sizeof(loop));
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    CHECK_MEM(&loop, &before, sizeof(loop));
    trace_iteration();
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
}

TEST(loop_close_is_refused_with_a_handle) {
    evl_os_sock_t sockets[2];
    socket_pair(sockets);
    for (int kind = 0; kind < 6; kind++)
        for (int state = 0; state < 3; state++) {
            any_t any;
            open_loop();
            start_any(&any, kind, sockets[0]);
            if (state == 1)
                evl_unref(&any.handle);
            if (state == 2) { /* not even active */
                if (kind == 0)
                    CHECK_EQ(evl_timer_stop(&any.timer), 0);
                if (kind == 1)
                    CHECK_EQ(evl_idle_stop(&any.idle), 0);
                if (kind == 2)
                    CHECK_EQ(evl_prepare_stop(&any.prepare), 0);
                if (kind == 3)
                    CHECK_EQ(evl_check_stop(&any.check), 0);
                if (kind == 5)
                    CHECK_EQ(evl_poll_stop(&any.poll), 0);
            }
            check_busy();
            evl_close(&any.handle, NULL);
            CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY); /* closing is not closed */
            run_all();
            CHECK_EQ(evl_loop_close(&loop), 0);
        }
    close_pair(sockets);
}

TEST(loop_close_is_refused_with_a_task) {
    evl_task_id id;
    open_loop();
    CHECK_EQ(evl_set_timeout(&loop, 3600000, never_task, NULL, &id), 0);
    check_busy();
    CHECK_EQ(evl_clear_task(&loop, id), 0);
    CHECK_EQ(evl_set_interval(&loop, 3600000, never_task, NULL, &id), 0);
    check_busy();
    CHECK_EQ(evl_clear_task(&loop, id), 0);
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    run_all();
    CHECK_TRACE("i");
    CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    run_all();
    CHECK_TRACE("p");
    CHECK_EQ(evl_loop_close(&loop), 0);
}

#ifndef EVLOOP_NO_NET

TEST(loop_close_is_refused_with_a_tcp_handle) {
    open_loop();
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    check_busy();
    evl_close((evl_handle_t *)&tcp, NULL);
    run_all();
    CHECK_EQ(evl_loop_close(&loop), 0);
}

#endif

TEST(loop_close_gives_everything_back) {
    int fds = test_open_fds();
    for (int i = 0; i < 50; i++) {
        evl_async_t async;
        open_loop();
        CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
        CHECK_EQ(evl_async_send(&async), 0);
        finish(&loop);
        CHECK_EQ(test_open_fds(), fds);
        CHECK_EQ(test_alloc_live(), 0);
    }
}

TEST(loop_opens_its_descriptors_close_on_exec) {
    int before = os_inheritable();
    open_loop();
    CHECK_EQ(os_inheritable(), before);
    finish(&loop);
}

/* ---- evl_loop_destroy ------------------------------------------------------------------------ */

static void count_close(evl_handle_t *handle) {
    (void)handle;
    calls++;
}

TEST(loop_destroy_of_an_empty_loop) {
    open_loop();
    CHECK_EQ(evl_loop_destroy(&loop, 0), 0);
    open_loop();
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(test_alloc_live(), 0);
}

TEST(loop_destroy_with_everything_open) {
    enum { KINDS = 6 };
    static any_t handles[2][KINDS];
    evl_os_sock_t sockets[2];
    int fds = test_open_fds();
    socket_pair(sockets);
    open_loop();
    for (int kind = 0; kind < KINDS; kind++) {
        start_any(&handles[0][kind], kind, sockets[0]);
        start_any(&handles[1][kind], kind, sockets[1]);
        evl_close(&handles[1][kind].handle, count_close); /* closing already */
    }
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(evl_set_immediate(&loop, trace_task, text(""), NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, (uint64_t)i, trace_task, text(""), NULL), 0);
        CHECK_EQ(evl_set_interval(&loop, (uint64_t)i, trace_task, text(""), NULL), 0);
        CHECK_EQ(evl_next_tick(&loop, trace_task, text("")), 0);
        CHECK_EQ(evl_queue_microtask(&loop, trace_task, text("")), 0);
        CHECK_EQ(evl_post(&loop, trace_task, text("")), 0);
    }
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(calls, KINDS); /* the close callbacks of those that had one */
    CHECK_EQ(test_alloc_live(), 0);
    close_pair(sockets);
    CHECK_EQ(test_open_fds(), fds);
}

static void revive(evl_handle_t *handle) {
    (void)handle;
    calls++;
    new_timer(&walked_timers[0], "");
    CHECK_EQ(evl_timer_start(&walked_timers[0], never_timer, 3600000, 3600000), 0);
}

/* A close callback may make a handle: destroy closes that, too. */
TEST(loop_destroy_closes_what_its_callbacks_make) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    evl_close((evl_handle_t *)&timer, revive);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(test_alloc_live(), 0);
}

static void set_new_tasks(evl_handle_t *handle) {
    (void)handle;
    calls++;
    CHECK_EQ(evl_set_interval(&loop, 0, trace_task, text(""), NULL), 0);
    CHECK_EQ(evl_set_timeout(&loop, 3600000, trace_task, text(""), NULL), 0);
    CHECK_EQ(evl_post(&loop, trace_task, text("")), 0);
    CHECK_EQ(evl_next_tick(&loop, trace_task, text("")), 0);
}

TEST(loop_destroy_forgets_what_its_callbacks_set) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    evl_close((evl_handle_t *)&timer, set_new_tasks);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(test_alloc_live(), 0);
}

static int destroy_rounds;

static void revive_for_ever(evl_handle_t *handle) {
    calls++;
    if (--destroy_rounds > 0) {
        new_timer((evl_timer_t *)handle, "");
        evl_close(handle, revive_for_ever);
    }
}

/* Callbacks that never come to an end are given up on in time, and can be tried again. */
TEST(loop_destroy_gives_up_in_time) {
    evl_timer_t timer;
    evl_loop_t *const l = &loop;
    open_loop();
    new_timer(&timer, "");
    destroy_rounds = 1000000000;
    evl_close((evl_handle_t *)&timer, revive_for_ever);
    uint64_t start = test_ms();
    CHECK_EQ(evl_loop_destroy(l, 30), EVL_ETIMEDOUT);
    CHECK_GE(test_ms() - start, 29);
    CHECK_GE(calls, 1);
    destroy_rounds = 5;
    CHECK_EQ(evl_loop_destroy(l, 1000), 0);
    CHECK_EQ(destroy_rounds, 0);
    CHECK_EQ(test_alloc_live(), 0);
}

static void stop_while_destroyed(evl_handle_t *handle) {
    (void)handle;
    calls++;
    evl_stop(&loop);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    CHECK_EQ(evl_loop_destroy(&loop, 10), EVL_EBUSY);
}

TEST(loop_destroy_is_not_stopped_by_its_callbacks) {
    open_loop();
    for (int i = 0; i < 10; i++) {
        new_timer(&walked_timers[i], "");
        evl_close((evl_handle_t *)&walked_timers[i], stop_while_destroyed);
    }
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(calls, 10);
}

TEST(loop_destroy_after_stop) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, never_timer, 1000, 0), 0);
    evl_stop(&loop);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(test_alloc_live(), 0);
}

TEST(loop_destroy_after_a_slice_that_stopped_midway) {
    open_loop();
    for (int i = 0; i < 10; i++) {
        new_timer(&walked_timers[i], "t");
        CHECK_EQ(evl_timer_start(&walked_timers[i], trace_timer, 0, 0), 0);
        CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
        CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
        CHECK_EQ(evl_next_tick(&loop, trace_task, text("k")), 0);
    }
    CHECK_NE(evl_run_for(&loop, 0), 0);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(test_alloc_live(), 0);
}

#ifndef EVLOOP_NO_NET

static int cancelled;

static void write_cancelled(evl_write_t *request, int status) {
    (void)request;
    CHECK_EQ(status, EVL_ECANCELED);
    CHECK_EQ(calls, 0); /* before the close callback */
    cancelled++;
}

static void never_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    (void)stream;
    (void)nread;
    (void)buf;
    test_fail(__FILE__, __LINE__, "there is nothing to read");
}

TEST(loop_destroy_cancels_requests) {
    enum { LENGTH = 16 << 20 };
    static evl_write_t requests[3];
    evl_os_sock_t fds[2];
    char *bytes = (char *)calloc(1, LENGTH);
    CHECK(bytes != NULL);
    os_tcp_pair(fds);
    open_loop();
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    CHECK_EQ(evl_read_start((evl_stream_t *)&tcp, NULL, never_read), 0);
    for (int i = 0; i < 3; i++) {
        evl_buf_t buf = evl_buf_init(bytes, LENGTH); /* nobody reads it */
        CHECK_EQ(evl_write(&requests[i], (evl_stream_t *)&tcp, &buf, 1, write_cancelled), 0);
    }
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    CHECK_EQ(cancelled, 3);
    CHECK_EQ(test_alloc_live(), 0);
    CHECK_EQ(os_close(fds[1]), 0);
    free(bytes);
}

#endif

/* ---- evl_run_for ----------------------------------------------------------------------------- */

static uint64_t slice_budget;
static int slice_calls; /* in this slice */

/* Every callback uses up the whole budget, so that none may follow it in its slice. */
static void slice_step(const char *what) {
    trace(what);
    CHECK_EQ(slice_calls, 0);
    slice_calls++;
    busy_ns(slice_budget);
}

/* The same work for evl_run and for slices: each callback is traced; the traces must be equal. */
static struct {
    evl_timer_t timers[3], closers[3], late_closers[3], restarting;
    evl_idle_t idles[3];
    evl_prepare_t prepares[3];
    evl_check_t checks[3];
    int sliced, rounds, late;
} work;

static void work_step(const char *what) {
    if (work.sliced)
        slice_step(what);
    else
        trace(what);
}

static void work_timer(evl_timer_t *timer) {
    work_step((const char *)timer->data);
}

/* Starts itself again: for the next pass. */
static void work_restart(evl_timer_t *timer) {
    work_step("R");
    if (work.rounds > 0)
        CHECK_EQ(evl_timer_start(timer, work_restart, 0, 0), 0);
}

static void work_task(evl_loop_t *l, void *arg) {
    (void)l;
    work_step((const char *)arg);
}

/* Posts another: for the next iteration. */
static void work_post_again(evl_loop_t *l, void *arg) {
    (void)arg;
    work_step("+");
    CHECK_EQ(evl_post(l, work_task, text("p")), 0);
}

static void work_closed(evl_handle_t *handle) {
    work_step((const char *)handle->data);
}

/* Closes another: for the next iteration. */
static void work_closed_late(evl_handle_t *handle) {
    work_step((const char *)handle->data);
    evl_timer_t *late = &work.late_closers[work.late++];
    CHECK_EQ(evl_timer_init(&loop, late), 0);
    late->data = text("L");
    evl_close((evl_handle_t *)late, work_closed);
}

static void work_idle(evl_idle_t *idle) {
    work_step((const char *)idle->data);
    if (work.rounds == 0)
        CHECK_EQ(evl_idle_stop(idle), 0);
}

static void work_check(evl_check_t *check) {
    work_step((const char *)check->data);
    if (work.rounds == 0)
        CHECK_EQ(evl_check_stop(check), 0);
}

/* Sets another: for the next iteration. */
static void work_immediate(evl_loop_t *l, void *arg) {
    (void)l;
    work_step((const char *)arg);
    CHECK_EQ(evl_set_immediate(&loop, work_task, text("i"), NULL), 0);
    CHECK_EQ(evl_next_tick(&loop, work_task, text("k")), 0);
    CHECK_EQ(evl_next_tick(&loop, work_task, text("l")), 0);
    CHECK_EQ(evl_queue_microtask(&loop, work_task, text("m")), 0);
    CHECK_EQ(evl_queue_microtask(&loop, work_task, text("n")), 0);
}

static void work_prepare(evl_prepare_t *prepare) {
    static const char *const names[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
    work_step((const char *)prepare->data);
    if (prepare != &work.prepares[2]) {
        if (work.rounds == 0)
            CHECK_EQ(evl_prepare_stop(prepare), 0);
        return;
    }
    if (work.rounds-- == 0) {
        work.rounds = 0;
        CHECK_EQ(evl_prepare_stop(prepare), 0);
        return;
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_timer_start(&work.timers[i], work_timer, 0, 0), 0);
        CHECK_EQ(evl_set_immediate(&loop, work_immediate, text(names[i]), NULL), 0);
        CHECK_EQ(evl_post(&loop, work_task, text(names[i + 3])), 0);
        CHECK_EQ(evl_timer_init(&loop, &work.closers[i]), 0);
        work.closers[i].data = text(names[i + 6]);
        evl_close((evl_handle_t *)&work.closers[i], i == 0 ? work_closed_late : work_closed);
    }
    CHECK_EQ(evl_post(&loop, work_post_again, NULL), 0);
    CHECK_EQ(evl_timer_start(&work.restarting, work_restart, 0, 0), 0);
}

static void work_begin(int sliced) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "A", "B", "C"};
    open_loop();
    memset(&work, 0, sizeof(work));
    work.sliced = sliced;
    work.rounds = 3;
    for (int i = 0; i < 3; i++) {
        new_timer(&work.timers[i], names[i]);
        CHECK_EQ(evl_idle_init(&loop, &work.idles[i]), 0);
        work.idles[i].data = text(names[i + 3]);
        CHECK_EQ(evl_idle_start(&work.idles[i], work_idle), 0);
        CHECK_EQ(evl_prepare_init(&loop, &work.prepares[i]), 0);
        work.prepares[i].data = text(names[i + 6]);
        CHECK_EQ(evl_prepare_start(&work.prepares[i], work_prepare), 0);
        CHECK_EQ(evl_check_init(&loop, &work.checks[i]), 0);
        work.checks[i].data = text(names[i + 9]);
        CHECK_EQ(evl_check_start(&work.checks[i], work_check), 0);
    }
    new_timer(&work.restarting, "");
    CHECK_EQ(evl_next_tick(&loop, work_task, text("x")), 0);
    CHECK_EQ(evl_next_tick(&loop, work_task, text("y")), 0);
    CHECK_EQ(evl_queue_microtask(&loop, work_task, text("z")), 0);
}

/* Slices in which one callback runs each, or none when the machine was slow to begin. */
static void run_slices(int mode_after) {
    int empty = 0;
    slice_budget = test_slow() ? 2 * MS : MS / 4;
    for (;;) {
        slice_calls = 0;
        int alive = evl_run_for(&loop, slice_budget);
        CHECK_GE(alive, 0);
        if (alive == 0)
            break;
        empty += slice_calls == 0;
        CHECK_LT(empty, 1000);                      /* it gets on */
        if (mode_after >= 0 && trace_length > 40) { /* the rest in another mode */
            work.sliced = 0;
            while (evl_run(&loop, (evl_run_mode)mode_after) != 0)
                continue;
            break;
        }
    }
}

TEST(loop_run_for_goes_on_exactly_where_it_stopped) {
    static char expected[sizeof(trace_text)];
    work_begin(0);
    run_all();
    memcpy(expected, trace_text, sizeof(expected));
    finish(&loop);
    for (int mode = -1; mode < 3; mode++) {
        work_begin(1);
        run_slices(mode);
        CHECK_STR(trace_text, expected);
        finish(&loop);
    }
}

static void slice_async(evl_async_t *async) {
    slice_step("a");
    evl_close((evl_handle_t *)async, NULL);
}

static void slice_poll(evl_poll_t *poll, int status, int events) {
    CHECK_EQ(status, 0);
    CHECK_NE(events, 0);
    slice_step("f");
    evl_close((evl_handle_t *)poll, NULL);
}

/* Asyncs and descriptors whose order is free: each runs once, and none is lost between slices. */
TEST(loop_run_for_loses_no_events) {
    enum { COUNT = 8 };
    evl_async_t asyncs[COUNT];
    evl_poll_t polls[COUNT];
    evl_os_sock_t sockets[COUNT];
    open_loop();
    for (int i = 0; i < COUNT; i += 2)
        socket_pair(&sockets[i]);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(evl_async_init(&loop, &asyncs[i], slice_async), 0);
        CHECK_EQ(evl_async_send(&asyncs[i]), 0);
        CHECK_EQ(evl_poll_init_socket(&loop, &polls[i], sockets[i]), 0);
        CHECK_EQ(evl_poll_start(&polls[i], EVL_WRITABLE, slice_poll), 0);
    }
    run_slices(-1);
    CHECK_EQ(trace_length, 2 * COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(os_close(sockets[i]), 0);
    finish(&loop);
}

#ifndef EVLOOP_NO_NET

static void slice_written(evl_write_t *request, int status) {
    CHECK_EQ(status, 0);
    slice_step((const char *)request->data);
}

TEST(loop_run_for_keeps_pending_callbacks_in_order) {
    static evl_write_t requests[5];
    static const char *const names[] = {"1", "2", "3", "4", "5"};
    evl_os_sock_t fds[2];
    os_tcp_pair(fds);
    open_loop();
    CHECK_EQ(evl_tcp_init(&loop, &tcp), 0);
    CHECK_EQ(evl_tcp_open(&tcp, fds[0]), 0);
    for (int i = 0; i < 5; i++) {
        evl_buf_t buf = evl_buf_init(one_byte, 1);
        requests[i].data = text(names[i]);
        CHECK_EQ(evl_write(&requests[i], (evl_stream_t *)&tcp, &buf, 1, slice_written), 0);
    }
    run_slices(-1);
    CHECK_TRACE("12345");
    CHECK_EQ(os_close(fds[1]), 0);
    finish(&loop);
}

#endif

#ifndef EVLOOP_NO_NET

static int slice_writes_left;

static void slice_write_again(evl_write_t *request, int status) {
    CHECK_EQ(status, 0);
    work_step("w");
    if (--slice_writes_left > 0) {
        evl_buf_t buf = evl_buf_init(one_byte, 1);
        CHECK_EQ(evl_write(request, request->handle, &buf, 1, slice_write_again), 0);
    }
}

static void slice_idle(evl_idle_t *idle) {
    work_step("I");
    if (slice_writes_left == 0)
        CHECK_EQ(evl_idle_stop(idle), 0);
}

static void slice_check(evl_check_t *check) {
    work_step("C");
    if (slice_writes_left == 0)
        CHECK_EQ(evl_check_stop(check), 0);
}

/* The rounds of pending callbacks after the poll are counted on, too. */
TEST(loop_run_for_keeps_the_rounds_of_pending_callbacks) {
    for (int sliced = 0; sliced < 2; sliced++) {
        evl_buf_t buf = evl_buf_init(one_byte, 1);
        pending_begin(0, 0);
        CHECK_EQ(evl_idle_stop(&pending_idle), 0);
        CHECK_EQ(evl_idle_start(&pending_idle, slice_idle), 0);
        CHECK_EQ(evl_check_stop(&pending_check), 0);
        CHECK_EQ(evl_check_start(&pending_check, slice_check), 0);
        slice_writes_left = 20;
        CHECK_EQ(evl_write(&write_request, (evl_stream_t *)&tcp, &buf, 1, slice_write_again), 0);
        work.sliced = sliced;
        if (sliced)
            run_slices(-1);
        else
            run_all();
        CHECK_TRACE("wIwwwwwwwwC"
                    "wIwwwwwwwwC"
                    "wIwC"
                    "I");
        pending_end();
    }
}

#endif

/* What is closed, stopped or cleared between two slices does not run in the next. */
TEST(loop_run_for_forgets_what_is_taken_back_between_slices) {
    evl_task_id ids[4];
    open_loop();
    for (int i = 0; i < 4; i++) {
        new_timer(&walked_timers[i], "t");
        CHECK_EQ(evl_timer_start(&walked_timers[i], work_timer, 0, 0), 0);
    }
    work.sliced = 1;
    slice_budget = test_slow() ? 2 * MS : MS / 4;
    do {
        slice_calls = 0;
        CHECK_NE(evl_run_for(&loop, slice_budget), 0);
    } while (trace_length == 0);
    CHECK_EQ(evl_timer_stop(&walked_timers[1]), 0);
    evl_close((evl_handle_t *)&walked_timers[2], NULL);
    run_slices(-1);
    CHECK_TRACE("tt");
    for (int i = 0; i < 4; i++)
        CHECK_EQ(evl_set_immediate(&loop, work_task, text("i"), &ids[i]), 0);
    do {
        slice_calls = 0;
        CHECK_NE(evl_run_for(&loop, slice_budget), 0);
    } while (trace_length == 0);
    CHECK_EQ(evl_clear_task(&loop, ids[0]), EVL_ENOENT);
    CHECK_EQ(evl_clear_task(&loop, ids[2]), 0);
    run_slices(-1);
    CHECK_TRACE("iii");
    finish(&loop);
}

TEST(loop_run_for_never_sleeps) {
    evl_timer_t timer;
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    for (int i = 0; i < 10; i++)
        CHECK_NE(evl_run_for(&loop, UINT64_C(3600000) * MS), 0); /* over the time limit if it did */
    CHECK_NE(evl_run_for(&loop, UINT64_MAX), 0);
    CHECK_NE(evl_run_for(&loop, 0), 0);
    finish(&loop);
}

static void count_idle(evl_idle_t *idle) {
    (void)idle;
    calls++;
}

/* As long as something is due it goes on, and it ends though there is no end of that. */
TEST(loop_run_for_ends_when_the_budget_is_spent) {
    evl_idle_t idle;
    open_loop();
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_idle_start(&idle, count_idle), 0);
    uint64_t start = test_ns();
    CHECK_NE(evl_run_for(&loop, 20 * MS), 0);
    uint64_t spent = test_ns() - start;
    CHECK_GE(spent, 20 * MS);
    if (!test_slow())
        CHECK_LT(spent, 1000 * MS);
    CHECK_GT(calls, 1);
    finish(&loop);
}

TEST(loop_run_for_runs_all_that_is_due) {
    open_loop();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
        CHECK_EQ(evl_set_timeout(&loop, 0, trace_task, text("t"), NULL), 0);
        CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    }
    CHECK_EQ(evl_run_for(&loop, 10000 * MS), 0); /* in one slice */
    CHECK_EQ(trace_length, 9);
    finish(&loop);
}

TEST(loop_run_for_sees_a_stop) {
    phases_begin(POLL_ASYNC);
    phases.stop_at = 'C';
    CHECK_NE(evl_run_for(&loop, 10000 * MS), 0);
    CHECK(strcmp(trace_text, "TIPpCMXT") == 0 || strcmp(trace_text, "IPpCMXT") == 0);
    phases_end();
}

/* ---- Fork ------------------------------------------------------------------------------------ */

static void child_poll(evl_poll_t *poll, int status, int events) {
    char byte;
    evl_os_fd_t fd;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, EVL_READABLE);
    CHECK_EQ(evl_fileno((evl_handle_t *)poll, &fd), 0);
    CHECK_EQ(os_recv((evl_os_sock_t)fd, &byte, 1), 1);
    trace("f");
    CHECK_EQ(evl_poll_stop(poll), 0);
}

static void child_async(evl_async_t *async) {
    trace("a");
    evl_close((evl_handle_t *)async, NULL);
}

#if !defined(_WIN32) /* which has no fork */

static void expect_exit_0(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) != pid)
        CHECK_EQ(errno, EINTR);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(loop_fork_with_everything_active) {
    evl_timer_t timer;
    evl_async_t async;
    evl_poll_t poll;
    evl_os_sock_t sockets[2];
    open_loop();
    socket_pair(sockets);
    new_timer(&timer, "t");
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_EQ(evl_poll_init_socket(&loop, &poll, sockets[0]), 0);
    CHECK_EQ(evl_poll_start(&poll, EVL_READABLE, child_poll), 0);
    CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0); /* everything is registered */
    CHECK_EQ(has_all("pi"), 1);
    trace_reset();
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 5, 0), 0);
    int fds = test_open_fds();
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(evl_loop_fork(&loop), 0);
        CHECK_EQ(test_open_fds(), fds); /* new kernel objects in the place of the old */
        CHECK_EQ(evl_async_send(&async), 0);
        CHECK_EQ(os_send(sockets[1], "c", 1), 1);
        run_all();
        CHECK_EQ(has_all("taf"), 1);
        CHECK_EQ(trace_length, 3);
        finish(&loop);
        CHECK_EQ(test_alloc_live(), 0);
        exit(0); /* not _exit: the tools that watch memory and coverage report at exit */
    }
    expect_exit_0(pid);
    /* Nothing of what the child did reaches the parent: not its byte (it read that), not its send,
     * not its closing. */
    while (!has_all("t"))
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("t");
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_EQ(os_send(sockets[1], "p", 1), 1);
    run_all();
    CHECK_EQ(has_all("af"), 1);
    CHECK_EQ(trace_length, 2);
    finish(&loop);
    close_pair(sockets);
}

/* What had been signalled but not run before the fork runs in both. */
TEST(loop_fork_keeps_what_was_signalled) {
    evl_async_t async;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0)
        CHECK_EQ(evl_loop_fork(&loop), 0);
    run_all();
    CHECK_EQ(has_all("ap"), 1);
    CHECK_EQ(trace_length, 2);
    finish(&loop);
    if (pid == 0)
        exit(0);
    expect_exit_0(pid);
}

/* Wake-ups in the child reach only the child, also while both sleep. */
static void *send_to(void *arg) {
    test_sleep_ms(20);
    CHECK_EQ(evl_async_send((evl_async_t *)arg), 0);
    return NULL;
}

TEST(loop_fork_separates_the_wakeups) {
    evl_async_t async;
    os_thread_t thread;
    open_loop();
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(evl_loop_fork(&loop), 0);
        CHECK_EQ(evl_async_send(&async), 0);
        run_all();
        CHECK_TRACE("a");
        exit(0);
    }
    expect_exit_0(pid);
    for (int i = 0; i < 3; i++)
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_TRACE("");
    start_thread(&thread, send_to, &async);
    run_all();
    join_thread(thread);
    CHECK_TRACE("a");
    finish(&loop);
}

/* A thread of the parent that was about to wake the loop does not exist in the child: nobody waits
 * for it there. */
TEST(loop_fork_while_a_thread_sends) {
    evl_async_t async;
    evl_timer_t timer;
    os_thread_t thread;
    open_loop();
    new_timer(&timer, "t");
    do {
        trace_reset();
        CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
        test_fault_set("wake", 1, -1, EINTR); /* keeps the sender busy */
        CHECK_EQ(evl_timer_start(&timer, trace_timer, 100, 0), 0);
        start_thread(&thread, send_to, &async);
        while (test_fault_calls("wake") < 10 && evl_is_active((evl_handle_t *)&timer))
            evl_run(&loop, EVL_RUN_ONCE);
        if (test_fault_calls("wake") < 10) /* the loop did not sleep yet */
            join_thread(thread);
    } while (test_fault_calls("wake") < 10);
    CHECK_TRACE("at"); /* it has been delivered */
    evl_close((evl_handle_t *)&timer, NULL);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        test_fault_clear();
        CHECK_EQ(evl_loop_fork(&loop), 0);
        CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
        CHECK_EQ(evl_async_send(&async), 0);
        run_all();
        CHECK_TRACE("a");
        CHECK_EQ(evl_loop_close(&loop), 0);
        CHECK_EQ(test_alloc_live(), 0);
        _exit(0); /* of all threads there is but this one: no leak checks */
    }
    test_fault_clear();
    join_thread(thread);
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_EQ(evl_async_send(&async), 0);
    run_all();
    CHECK_TRACE("a");
    expect_exit_0(pid);
    finish(&loop);
}

/* A child that only closes the loop, as before an exec that fails, leaves the parent's in peace. */
TEST(loop_fork_then_destroy_in_the_child) {
    evl_poll_t poll;
    evl_os_sock_t sockets[2];
    open_loop();
    socket_pair(sockets);
    CHECK_EQ(evl_poll_init_socket(&loop, &poll, sockets[0]), 0);
    CHECK_EQ(evl_poll_start(&poll, EVL_READABLE, child_poll), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(evl_loop_fork(&loop), 0);
        CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
        CHECK_EQ(test_alloc_live(), 0);
        exit(0);
    }
    expect_exit_0(pid);
    CHECK_EQ(os_send(sockets[1], "x", 1), 1);
    run_all();
    CHECK_TRACE("f");
    finish(&loop);
    close_pair(sockets);
}

#endif /* !_WIN32 */

/* ---- Configuration --------------------------------------------------------------------------- */

TEST(loop_backend_that_does_not_exist) {
    int fds = test_open_fds();
    static const char *const names[] = {"nonsense", "", "epol", "epolls", "EPOLL", "poll ", "none"};
    for (int i = 0; i < 7; i++) {
        os_setenv("EVLOOP_BACKEND", names[i]);
        if (i == 1) { /* empty: as good as unset, or a name that is none */
            int result = evl_loop_init(&loop);
            CHECK(result == 0 || result == EVL_EINVAL);
            if (result == 0)
                CHECK_EQ(evl_loop_close(&loop), 0);
            continue;
        }
        CHECK_EQ(evl_loop_init(&loop), EVL_EINVAL);
        CHECK_EQ(test_alloc_live(), 0);
        CHECK_EQ(test_open_fds(), fds);
    }
    CHECK_EQ(evl_loop_new() == NULL, 1);
    CHECK_EQ(evl_default_loop() == NULL, 1);
    os_setenv("EVLOOP_BACKEND", NULL);
    open_loop(); /* the best one compiled in */
    finish(&loop);
    os_setenv("EVLOOP_BACKEND", OS_LAST_BACKEND);
    open_loop();
    CHECK_EQ(evl_backend_fd(&loop), -1);
    finish(&loop);
    evl_loop_t *again = evl_default_loop(); /* the failure was not for ever */
    CHECK(again != NULL);
    CHECK_EQ(evl_loop_close(again), 0);
}

TEST(loop_backend_fd) {
    int inheritable = os_inheritable();
    open_loop();
    if (strcmp(os_calls()->backend, OS_LAST_BACKEND) == 0) {
        CHECK_EQ(evl_backend_fd(&loop), -1);
    } else {
        CHECK_GE(evl_backend_fd(&loop), 0);
        CHECK_EQ(os_inheritable(), inheritable);
    }
    finish(&loop);
}

static void embed_poll(evl_poll_t *poll, int status, int events) {
    child_poll(poll, status, events);
    CHECK_EQ(evl_poll_start(poll, EVL_READABLE, embed_poll), 0);
}

/* Sleeps on the loop's descriptor for as long as the loop allows, then has it turn without waiting:
 * what libuv calls embedding. Returns how many turns it took until the trace is that long. */
static int embed_until(size_t length) {
    int turns = 0;
    for (; trace_length < length; turns++) {
        os_poll((evl_os_sock_t)evl_backend_fd(&loop), POLLIN, evl_backend_timeout(&loop));
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        CHECK_LT(turns, 1000);
    }
    return turns;
}

TEST(loop_embedded_in_another_loop) {
    evl_poll_t poll_handle;
    evl_timer_t timer;
    evl_os_sock_t sockets[2];
    open_loop();
    if (evl_backend_fd(&loop) == -1)
        SKIP("this backend has no descriptor");
    SKIP_ON_LIBKQUEUE(OS_NO_POLL_ON_KQUEUE);
    socket_pair(sockets);
    CHECK_EQ(evl_poll_init_socket(&loop, &poll_handle, sockets[0]), 0);
    CHECK_EQ(evl_poll_start(&poll_handle, EVL_READABLE, embed_poll), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(os_send(sockets[1], "x", 1), 1);
        CHECK_LE(embed_until((size_t)i + 1), 3);
    }
    CHECK_TRACE("fff");
    new_timer(&timer, "t");
    for (int i = 0; i < 3; i++) {
        uint64_t start = test_ns();
        CHECK_EQ(evl_timer_start_ns(&timer, trace_timer, 5 * MS + 800000, 0), 0);
        CHECK_LE(embed_until(1), 5); /* it sleeps, also for the last part of a millisecond */
        CHECK_GE(test_ns() - start, 5 * MS + 800000);
        CHECK_TRACE("t");
    }
    finish(&loop);
    close_pair(sockets);
}

static void send_when_late(evl_timer_t *timer) {
    CHECK_EQ(evl_async_send((evl_async_t *)timer->data), 0);
}

/* What the last phase of a run sends is not forgotten by one who sleeps on the descriptor. */
TEST(loop_embedded_sees_what_was_sent_late_in_a_run) {
    evl_timer_t timer;
    evl_async_t async;
    open_loop();
    if (evl_backend_fd(&loop) == -1)
        SKIP("this backend has no descriptor");
    SKIP_ON_LIBKQUEUE(OS_NO_POLL_ON_KQUEUE);
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    new_timer(&timer, "");
    timer.data = &async;
    CHECK_EQ(evl_timer_start(&timer, send_when_late, 0, 0), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(evl_backend_timeout(&loop), 0);
    CHECK_NE(os_poll((evl_os_sock_t)evl_backend_fd(&loop), POLLIN, 0), 0);
    run_all();
    CHECK_TRACE("a");
    finish(&loop);
}

TEST(loop_configure) {
    evl_metrics_t metrics;
    open_loop();
    CHECK_EQ(evl_loop_configure(&loop, EVL_LOOP_BLOCK_SIGNAL, OS_PROFILER_SIGNAL),
             OS_PROFILER_SIGNAL != 0 ? 0 : EVL_ENOSYS);
    CHECK_LT(evl_loop_configure(&loop, EVL_LOOP_BLOCK_SIGNAL, SIGTERM), 0);
    CHECK_LT(evl_loop_configure(&loop, EVL_LOOP_BLOCK_SIGNAL, 0), 0);
    CHECK_EQ(evl_loop_configure(&loop, EVL_METRICS_IDLE_TIME, 0), 0);
    CHECK_EQ(evl_loop_configure(&loop, EVL_LOOP_USE_IO_URING_SQPOLL, 0), EVL_ENOSYS);
    CHECK_EQ(evl_loop_configure(&loop, (evl_loop_option)3, 0), EVL_ENOSYS);
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    trace_iteration();
    finish(&loop);
}

#if !defined(_WIN32) /* which has no signals to block */

static volatile int profiled;
static uint64_t profiled_ns;

static void on_profile(int signum) {
    (void)signum;
    profiled_ns = test_ns();
    shared_set(&profiled, 1);
}

static pthread_t profiled_thread;

static void *profile_soon(void *arg) {
    (void)arg;
    test_sleep_ms(10);
    CHECK_EQ(pthread_kill(profiled_thread, SIGPROF), 0);
    return NULL;
}

static uint64_t woken_ns;

static void note_wakeup(evl_timer_t *timer) {
    (void)timer;
    woken_ns = test_ns();
}

/* A profiler's signal does not wake the loop: it is delivered when the sleep is over. */
TEST(loop_configure_blocks_a_signal_while_asleep) {
    struct sigaction action;
    evl_timer_t timer;
    sigset_t mask;
    sigset_t nothing;
    int held_back = 0;
    sigemptyset(&nothing);
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_profile;
    CHECK_EQ(sigaction(SIGPROF, &action, NULL), 0);
    open_loop();
    CHECK_EQ(evl_loop_configure(&loop, EVL_LOOP_BLOCK_SIGNAL, SIGPROF), 0);
    profiled_thread = pthread_self();
    new_timer(&timer, "");
    for (int i = 0; i < 10 && !held_back;
         i++) { /* on a busy machine it may come before the sleep */
        os_thread_t thread;
        shared_set(&profiled, 0);
        uint64_t start = test_ns();
        CHECK_EQ(evl_timer_start(&timer, note_wakeup, 40, 0), 0);
        start_thread(&thread, profile_soon, NULL);
        run_all();
        join_thread(thread);
        /* The sanitizers' runtimes deliver it later still, qemu 7.2 when the mask is next set. */
        while (!shared_get(&profiled)) {
            CHECK_EQ(pthread_sigmask(SIG_BLOCK, &nothing, NULL), 0);
            os_yield();
        }
        CHECK_GE(woken_ns - start, 40 * MS);
        held_back = profiled_ns - start >= 40 * MS;
        CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
        CHECK_EQ(sigismember(&mask, SIGPROF), 0); /* the mask is as it was */
    }
    CHECK_EQ(held_back, 1);
    finish(&loop);
}

#endif /* !_WIN32 */

static void *interrupt_soon(void *arg) {
    test_sleep_ms(10);
    os_interrupt(*(os_thread_t *)arg);
    return NULL;
}

/* A signal that nobody blocks interrupts the sleep; the timer must still be neither early nor lost. */
TEST(loop_signals_do_not_shorten_sleeps) {
    os_thread_t thread, self = os_self();
    evl_timer_t timer;
    os_take_interrupts();
    open_loop();
    new_timer(&timer, "t");
    uint64_t start = test_ns(), ms = test_slow() ? 400 : 40;
    CHECK_EQ(evl_timer_start(&timer, trace_timer, ms, 0), 0);
    start_thread(&thread, interrupt_soon, &self);
    CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_GE(test_ns() - start, ms * MS);
    CHECK_EQ(*os_interrupts(), 1);
    CHECK_TRACE("t");
    join_thread(thread);
    finish(&loop);
}

TEST(loop_metrics) {
    evl_metrics_t metrics;
    evl_timer_t timer;
    evl_poll_t poll;
    evl_os_sock_t sockets[2];
    open_loop();
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    CHECK_EQ(metrics.loop_count, 0);
    CHECK_EQ(metrics.events, 0);
    CHECK_EQ(metrics.events_waiting, 0);
    CHECK_EQ(evl_metrics_idle_time(&loop), 0);
    socket_pair(sockets);
    new_timer(&timer, "");
    CHECK_EQ(evl_timer_start(&timer, any_timer, 3600000, 0), 0);
    for (int i = 1; i <= 3; i++) {
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
        CHECK_EQ(metrics.loop_count, i);
    }
    CHECK_EQ(metrics.events, 0);
    CHECK_EQ(evl_timer_start(&timer, any_timer, 5, 0), 0);
    run_all();
    CHECK_EQ(evl_metrics_idle_time(&loop), 0); /* not asked for */
    CHECK_EQ(evl_loop_configure(&loop, EVL_METRICS_IDLE_TIME), 0);
    CHECK_EQ(evl_timer_start(&timer, any_timer, 40, 0), 0);
    uint64_t start = test_ns();
    run_all();
    CHECK_GE(evl_metrics_idle_time(&loop), 1 * MS);
    CHECK_LE(evl_metrics_idle_time(&loop), test_ns() - start);
    CHECK_EQ(evl_poll_init_socket(&loop, &poll, sockets[0]), 0);
    CHECK_EQ(evl_poll_start(&poll, EVL_READABLE, child_poll), 0);
    CHECK_EQ(os_send(sockets[1], "x", 1), 1);
    uint64_t idle = evl_metrics_idle_time(&loop);
    run_all();
    CHECK_TRACE("f");
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    CHECK_EQ(metrics.events, 1);
    CHECK_EQ(metrics.events_waiting, 1); /* it was there before the loop would have slept */
    CHECK_EQ(evl_metrics_idle_time(&loop), idle);
    CHECK_EQ(evl_poll_start(&poll, EVL_READABLE, child_poll), 0);
    CHECK_EQ(os_send(sockets[1], "x", 1), 1);
    evl_run(&loop, EVL_RUN_NOWAIT);
    CHECK_TRACE("f");
    CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
    CHECK_EQ(metrics.events, 2);
    CHECK_EQ(metrics.events_waiting, 2);
    finish(&loop);
    close_pair(sockets);
}

TEST(loop_default_new_and_delete) {
    evl_loop_t *first = evl_default_loop();
    CHECK(first != NULL);
    CHECK_PTR(evl_default_loop(), first);
    CHECK_EQ(evl_run(first, EVL_RUN_DEFAULT), 0);
    evl_loop_t *other = evl_loop_new();
    CHECK(other != NULL);
    CHECK(other != first);
    CHECK_EQ(evl_set_immediate(other, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_run(other, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("i");
    evl_loop_delete(other);
    CHECK_EQ(evl_loop_close(first), 0);
    first = evl_default_loop(); /* it can be made again */
    CHECK(first != NULL);
    CHECK_EQ(evl_set_immediate(first, trace_task, text("i"), NULL), 0);
    CHECK_EQ(evl_run(first, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("i");
    evl_loop_delete(first);
    CHECK_EQ(test_alloc_live(), 0);
}

TEST(loop_size_and_data) {
    open_loop();
    CHECK_EQ(evl_loop_size(), sizeof(evl_loop_t));
    CHECK_PTR(evl_loop_get_data(&loop), loop.data);
    evl_loop_set_data(&loop, &calls);
    CHECK_PTR(evl_loop_get_data(&loop), &calls);
    CHECK_PTR(loop.data, &calls);
    run_all();
    CHECK_PTR(loop.data, &calls);
    finish(&loop);
}

/* As libuv's: the pointer that was there before init stays. */
TEST(loop_init_keeps_data) {
    loop.data = &calls;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_PTR(loop.data, &calls);
    finish(&loop);
}

/* ---- Failing memory and system calls --------------------------------------------------------- */

TEST(loop_init_survives_each_failing_allocation) {
    int fds = test_open_fds();
    for (long times = 1; times >= -1; times -= 2)
        for (long nth = 1;; nth++) {
            test_alloc_fail(nth, times);
            int result = evl_loop_init(&loop);
            test_alloc_fail(0, 0);
            if (result == 0) {
                trace_iteration();
                CHECK_EQ(evl_loop_close(&loop), 0);
                CHECK_LT(nth, 100);
                break;
            }
            CHECK_EQ(result, EVL_ENOMEM);
            CHECK_EQ(test_alloc_live(), 0);
            CHECK_EQ(test_open_fds(), fds);
        }
}

/* Everything a small program does, with the nth allocation failing: an error, or all is well. */
static int small_program(void) {
    evl_timer_t timer;
    evl_async_t async;
    evl_poll_t poll;
    evl_os_sock_t sockets[2];
    int failures = 0;
    socket_pair(sockets);
    if (evl_loop_init(&loop) != 0) {
        close_pair(sockets);
        return 1;
    }
    failures += evl_timer_init(&loop, &timer) != 0;
    timer.data = text("t");
    failures += evl_timer_start(&timer, trace_timer, 0, 0) != 0;
    int async_made = evl_async_init(&loop, &async, child_async) == 0;
    failures += !async_made || evl_async_send(&async) != 0;
    int poll_made = evl_poll_init_socket(&loop, &poll, sockets[0]) == 0;
    failures += !poll_made || evl_poll_start(&poll, EVL_WRITABLE, any_poll) != 0;
    failures += evl_next_tick(&loop, trace_task, text("k")) != 0;
    failures += evl_set_immediate(&loop, trace_task, text("i"), NULL) != 0;
    failures += evl_set_timeout(&loop, 0, trace_task, text("o"), NULL) != 0;
    failures += evl_post(&loop, trace_task, text("p")) != 0;
    for (int i = 0; i < 5; i++)
        CHECK_GE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    evl_walk(&loop, close_if_open, NULL);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_loop_close(&loop), 0);
    close_pair(sockets);
    return failures;
}

TEST(loop_survives_each_failing_allocation) {
    int fds = test_open_fds();
    for (long times = 1; times >= -1; times -= 2)
        for (long nth = 1;; nth++) {
            size_t before = test_alloc_calls();
            trace_reset();
            test_alloc_fail(nth, times);
            int failures = small_program();
            test_alloc_fail(0, 0);
            CHECK_EQ(test_alloc_live(), 0);
            CHECK_EQ(test_open_fds(), fds);
            if (failures == 0) {
                CHECK_EQ(has_all("takiop"), 1);
                CHECK_EQ(trace_length, 6);
                if ((long)(test_alloc_calls() - before) < nth)
                    break;
            }
            CHECK_LT(nth, 200);
        }
}

/* The system calls that a poller is made of, the nth of each failing: an error, or all is well. */
TEST(loop_survives_each_failing_system_call) {
    static const char *const names[] = {"epoll_create",  "eventfd", "epoll_ctl", "kqueue",
                                        "kevent_change", "pipe",    "fionbio",   "fcntl"};
    static const int errors[] = {EMFILE, ENFILE, ENOMEM};
    int fds = test_open_fds();
    for (int name = 0; name < 8; name++)
        for (int err = 0; err < 3; err++)
            for (long nth = 1;; nth++) {
                trace_reset();
                test_fault_set(names[name], nth, 1, errors[err]);
                int failures = small_program();
                long hits = test_fault_hits(names[name]);
                test_fault_clear();
                CHECK_EQ(test_alloc_live(), 0);
                CHECK_EQ(test_open_fds(), fds);
                if (failures == 0)
                    CHECK_EQ(has_all("takiop"), 1);
                if (hits == 0) {
                    CHECK_EQ(failures, 0);
                    break;
                }
                CHECK_LT(nth, 100);
            }
}

TEST(loop_init_reports_each_failing_system_call) {
    static const char *const names[] = {"epoll_create",  "eventfd", "epoll_ctl",  "kqueue",
                                        "kevent_change", "pipe",    "iocp_create"};
    static const int errors[] = {EMFILE, ENFILE, ENOMEM, EMFILE, ENOMEM, EMFILE, ENOMEM};
    static const int codes[] = {EVL_EMFILE, EVL_ENFILE, EVL_ENOMEM, EVL_EMFILE,
                                EVL_ENOMEM, EVL_EMFILE, EVL_ENOMEM};
    int fds = test_open_fds(), hits = 0;
    for (int i = 0; i < 7; i++) {
        test_fault_set(names[i], 1, 1, errors[i]);
        int result = evl_loop_init(&loop);
        if (test_fault_hits(names[i]) == 0) { /* another backend's */
            CHECK_EQ(result, 0);
            CHECK_EQ(evl_loop_close(&loop), 0);
        } else {
            hits++;
            CHECK_EQ(result, codes[i]);
            CHECK_EQ(test_alloc_live(), 0);
            CHECK_EQ(test_open_fds(), fds);
        }
        test_fault_clear();
    }
    CHECK_GT(hits, 0);
    test_fault_set(os_calls()->create, 1, -1, EMFILE);
    CHECK_EQ(evl_loop_new() == NULL, 1);
    CHECK_EQ(evl_default_loop() == NULL, 1);
    test_fault_clear();
    CHECK_EQ(test_alloc_live(), 0);
}

/* An error that has no business here is reported, and the loop is as good as before. */
TEST(loop_wait_that_fails_is_reported) {
    open_loop();
    CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
    test_fault_set(os_calls()->wait, 1, 1, ENOMEM);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), EVL_ENOMEM);
    test_fault_clear();
    run_all();
    CHECK_TRACE("i");
    finish(&loop);
}

TEST(loop_wait_interrupted_by_signals) {
    evl_timer_t timer;
    open_loop();
    new_timer(&timer, "t");
    for (int idle_time = 0; idle_time < 2; idle_time++) { /* which makes it wait another way */
        if (idle_time)
            CHECK_EQ(evl_loop_configure(&loop, EVL_METRICS_IDLE_TIME), 0);
        CHECK_EQ(evl_timer_start(&timer, trace_timer, 3600000, 0), 0);
        test_fault_set(os_calls()->wait, 1, 3, EINTR);
        CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
        CHECK_GE(test_fault_hits(os_calls()->wait), 1);
        for (long nth = 1; nth <= 2; nth++) {
            uint64_t start = evl_hrtime();
            CHECK_EQ(evl_timer_start(&timer, trace_timer, 5, 0), 0);
            test_fault_set(os_calls()->wait, nth, 3, EINTR);
            CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 0); /* it goes on sleeping */
            CHECK_GE(test_fault_hits(os_calls()->wait), nth == 1);
            CHECK_GE(evl_hrtime() - start, 5 * MS);
            CHECK_TRACE("t");
        }
        test_fault_clear();
    }
    finish(&loop);
}

#if !defined(_WIN32) /* which has no epoll */

/* Kernels before 5.11 have no epoll_pwait2, and seccomp filters answer EPERM for what is new. */
TEST(loop_without_epoll_pwait2) {
    static const int errors[] = {ENOSYS, EPERM};
    evl_timer_t timer;
    evl_metrics_t metrics;
    for (int i = 0; i < 2; i++) {
        open_loop();
        new_timer(&timer, "t");
        test_fault_set("epoll_pwait2", 1, -1, errors[i]);
        uint64_t start = evl_hrtime();
        CHECK_EQ(evl_timer_start_ns(&timer, trace_timer, 5 * MS + 300000, 0), 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        CHECK_GE(evl_hrtime() - start, 5 * MS + 300000);
        CHECK_TRACE("t");
        CHECK_EQ(evl_metrics_info(&loop, &metrics), 0);
        CHECK_LE(metrics.loop_count, 2); /* rounded up: no spinning in the last millisecond */
        test_fault_clear();
        finish(&loop);
    }
}

#endif /* !_WIN32 */

TEST(loop_wakeup_interrupted_by_signals) {
    evl_async_t async;
    open_loop();
    if (evl_backend_fd(&loop) == -1)
        SKIP("this backend has no descriptor");
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    test_fault_set("wake", 1, 3, EINTR);
    errno = 4711;
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_EQ(errno, 4711); /* it may be called from a signal handler */
    CHECK_EQ(test_fault_hits("wake"), 3);
    CHECK_EQ(test_fault_calls("wake"), 4);
    run_all();
    CHECK_TRACE("a");
    finish(&loop);
}

TEST(loop_embedded_sees_an_interrupted_wakeup) {
    evl_async_t async;
    open_loop();
    if (evl_backend_fd(&loop) == -1)
        SKIP("this backend has no descriptor");
    SKIP_ON_LIBKQUEUE(OS_NO_POLL_ON_KQUEUE);
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_EQ(os_poll((evl_os_sock_t)evl_backend_fd(&loop), POLLIN, 0), 0);
    test_fault_set("wake", 1, 3, EINTR);
    CHECK_EQ(evl_async_send(&async), 0);
    CHECK_EQ(test_fault_hits("wake"), 3);
    CHECK_EQ(os_poll((evl_os_sock_t)evl_backend_fd(&loop), POLLIN, 0), POLLIN);
    run_all();
    CHECK_TRACE("a");
    finish(&loop);
}

#if !defined(_WIN32) /* which has no fork */

/* evl_loop_fork that fails, at each call it makes, can be called again. */
TEST(loop_fork_can_be_repeated_when_it_fails) {
    static const char *const names[] = {"epoll_create", "eventfd",       "epoll_ctl",
                                        "kqueue",       "kevent_change", "pipe"};
    enum { COUNT = 3 };
    evl_poll_t polls[COUNT];
    evl_async_t async;
    evl_os_sock_t sockets[COUNT][2];
    char byte;
    open_loop();
    for (int i = 0; i < COUNT; i++) {
        socket_pair(sockets[i]);
        CHECK_EQ(evl_poll_init_socket(&loop, &polls[i], sockets[i][0]), 0);
        CHECK_EQ(evl_poll_start(&polls[i], EVL_READABLE, child_poll), 0);
    }
    CHECK_EQ(evl_async_init(&loop, &async, child_async), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    int fds = test_open_fds();
    for (int name = 0; name < 6; name++)
        for (long nth = 1; nth <= 5; nth++) {
            pid_t pid = fork();
            CHECK_GE(pid, 0);
            if (pid > 0) {
                expect_exit_0(pid);
                continue;
            }
            test_fault_set(names[name], nth, 1, EMFILE);
            int result = evl_loop_fork(&loop);
            CHECK_EQ(result, test_fault_hits(names[name]) > 0 ? EVL_EMFILE : 0);
            if (result != 0)
                CHECK_EQ(evl_loop_fork(&loop), 0);
            CHECK_EQ(test_open_fds(), fds);
            for (int i = 0; i < COUNT; i++)
                CHECK_EQ(os_send(sockets[i][1], "x", 1), 1);
            CHECK_EQ(evl_async_send(&async), 0);
            run_all();
            CHECK_EQ(trace_length, COUNT + 1);
            finish(&loop);
            for (int i = 0; i < COUNT; i++)
                CHECK_EQ(os_recv(sockets[i][0], &byte, 1), -1); /* the children share the sockets */
            exit(0);
        }
    finish(&loop);
    for (int i = 0; i < COUNT; i++)
        close_pair(sockets[i]);
}

/* A descriptor that waits for fork to be repeated can still be closed. */
TEST(loop_fork_that_failed_can_be_closed) {
    evl_poll_t polls[2];
    evl_os_sock_t sockets[2];
    socket_pair(sockets);
    open_loop();
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(evl_poll_init_socket(&loop, &polls[i], sockets[i]), 0);
        CHECK_EQ(evl_poll_start(&polls[i], EVL_READABLE, any_poll), 0);
    }
    for (long nth = 1; nth <= 4; nth++) {
        pid_t pid = fork();
        CHECK_GE(pid, 0);
        if (pid > 0) {
            expect_exit_0(pid);
            continue;
        }
        test_fault_set(os_calls()->watch != NULL ? os_calls()->watch : os_calls()->create, nth, -1,
                       ENOMEM);
        evl_loop_fork(&loop);
        test_fault_clear();
        CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
        CHECK_EQ(test_alloc_live(), 0);
        exit(0);
    }
    finish(&loop);
    close_pair(sockets);
}

#endif /* !_WIN32 */
