/* The worker pool: work, pools of one's own, cancelling, fork, random bytes. */
#include "trace.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#endif

#define MS UINT64_C(1000000)

static evl_loop_t loop;

static void open_loop(void) {
    memset(&loop, 0xa5, sizeof(loop)); /* init relies on nothing */
    CHECK_EQ(evl_loop_init(&loop), 0);
    trace_reset();
}

static void run_all(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
}

/* As `finish`; and the default pool goes as well. */
static void finish_all(void) {
    finish(&loop);
    evl_library_shutdown();
}

/* What is counted of a request. The members are plain: the thread sanitizer sees whether the library
 * orders the threads. */
typedef struct {
    evl_work_t req;
    int worked; /* by a thread of the pool */
    int called; /* by the loop */
    int status;
    int order;
} job_t;

static job_t jobs[1024];

static void work(evl_work_t *req) {
    ((job_t *)req->data)->worked++;
}

static void after(evl_work_t *req, int status) {
    job_t *job = (job_t *)req->data;
    CHECK_PTR(req, &job->req);
    job->called++;
    job->status = status;
}

static void never_work(evl_work_t *req) {
    (void)req;
    test_fail(__FILE__, __LINE__, "this work must not run");
}

static void never_after(evl_work_t *req, int status) {
    (void)req;
    (void)status;
    test_fail(__FILE__, __LINE__, "this callback of work must not run");
}

static void clear_job(job_t *job) {
    memset(job, 0, sizeof(*job));
    memset(&job->req, 0xa5, sizeof(job->req)); /* what is queued relies on nothing */
    job->req.data = job;
    job->status = 1;
}

static int queue_on(evl_loop_t *l, job_t *job, evl_work_cb work_cb) {
    clear_job(job);
    return evl_queue_work(l, &job->req, work_cb, after);
}

static void queue(job_t *job) {
    CHECK_EQ(queue_on(&loop, job, work), 0);
}

static void check_done(const job_t *job, int status) {
    CHECK_EQ(job->called, 1);
    CHECK_EQ(job->status, status);
    CHECK_EQ(job->worked, status == 0);
}

/* ---- One request ----------------------------------------------------------------------------- */

TEST(pool_work_runs_both_callbacks_once) {
    open_loop();
    queue(&jobs[0]);
    CHECK_EQ(jobs[0].called, 0);
    CHECK_EQ(jobs[0].req.type, EVL_WORK);
    CHECK_PTR(jobs[0].req.loop, &loop);
    CHECK_PTR(jobs[0].req.data, &jobs[0]);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    check_done(&jobs[0], 0);
    queue(&jobs[0]); /* the request can be used again */
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

TEST(pool_work_waits_for_the_loop_to_call_back) {
    open_loop();
    for (int i = 0; i < 10; i++)
        queue(&jobs[i]);
    test_sleep_ms(20);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(jobs[i].called, 0);
    run_all();
    for (int i = 0; i < 10; i++)
        check_done(&jobs[i], 0);
    finish_all();
}

TEST(pool_work_without_a_callback) {
    open_loop();
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, NULL), 0);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    run_all();
    CHECK_EQ(jobs[0].worked, 1);
    finish_all();
}

TEST(pool_work_without_work_is_refused) {
    open_loop();
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, NULL, never_after), EVL_EINVAL);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    queue(&jobs[0]);
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

/* ---- Order ----------------------------------------------------------------------------------- */

static void trace_after(evl_work_t *req, int status) {
    after(req, status);
    trace("w");
}

TEST(pool_work_is_called_back_in_the_poll_phase) {
    evl_prepare_t prepare;
    evl_check_t check;
    int count = 0;
    open_loop();
    trace_polls(&loop, &prepare, &check);
    for (int i = 0; i < 50; i++) {
        clear_job(&jobs[i]);
        CHECK_EQ(evl_queue_work(&loop, &jobs[i].req, work, trace_after), 0);
    }
    run_all();
    for (const char *s = trace_text; *s != '\0'; s++)
        if (*s == 'w') {
            count++;
            CHECK(s > trace_text && s[-1] != 'c');
            CHECK(s[1] == 'w' || s[1] == 'c');
        }
    CHECK_EQ(count, 50);
    finish_all();
}

static void after_with_tasks(evl_work_t *req, int status) {
    trace_after(req, status);
    CHECK_EQ(evl_queue_microtask(&loop, trace_task, text("m")), 0);
    CHECK_EQ(evl_next_tick(&loop, trace_task, text("t")), 0);
}

TEST(pool_work_is_followed_by_ticks_and_microtasks) {
    open_loop();
    for (int i = 0; i < 4; i++) {
        clear_job(&jobs[i]);
        CHECK_EQ(evl_queue_work(&loop, &jobs[i].req, work, after_with_tasks), 0);
    }
    run_all();
    CHECK_TRACE("wtmwtmwtmwtm");
    finish_all();
}

static int chain_left;

static void queue_again(evl_work_t *req, int status) {
    CHECK_EQ(status, 0);
    if (--chain_left > 0)
        CHECK_EQ(evl_queue_work(req->loop, req, work, queue_again), 0);
}

TEST(pool_work_queued_from_its_callback) {
    open_loop();
    chain_left = 1000;
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, queue_again), 0);
    run_all();
    CHECK_EQ(chain_left, 0);
    CHECK_EQ(jobs[0].worked, 1000);
    finish_all();
}

/* One that queues itself for ever leaves timers their turn. */
TEST(pool_work_starves_no_timers) {
    evl_timer_t timer;
    open_loop();
    chain_left = 1000000000;
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, queue_again), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    timer.data = text("t");
    CHECK_EQ(evl_timer_start(&timer, trace_timer, 5, 0), 0);
    while (trace_length == 0)
        CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 1);
    chain_left = 1;
    run_all();
    finish_all();
}

static void check_loop(evl_work_t *req, int status) {
    CHECK_PTR(req->loop, jobs[0].req.loop);
    after(req, status);
}

TEST(pool_work_on_several_loops) {
    static evl_loop_t loops[3];
    static job_t on_loop[3][20];
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(evl_loop_init(&loops[i]), 0);
        for (int n = 0; n < 20; n++) {
            clear_job(&on_loop[i][n]);
            CHECK_EQ(evl_queue_work(&loops[i], &on_loop[i][n].req, work, check_loop), 0);
        }
    }
    for (int i = 0; i < 3; i++) { /* each calls back its own only */
        jobs[0].req.loop = &loops[i];
        CHECK_EQ(evl_run(&loops[i], EVL_RUN_DEFAULT), 0);
        for (int n = 0; n < 20; n++)
            check_done(&on_loop[i][n], 0);
        CHECK_EQ(evl_loop_close(&loops[i]), 0);
    }
    evl_library_shutdown();
}

static void after_and_stop(evl_work_t *req, int status) {
    trace_after(req, status);
    evl_stop(req->loop);
}

TEST(pool_stop_in_a_callback) {
    open_loop();
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, after_and_stop), 0);
    CHECK_EQ(evl_set_timeout(&loop, 3600000, never_task, NULL, NULL), 0);
    CHECK_NE(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_TRACE("w");
    queue(&jobs[1]); /* the stop was good for that run only */
    while (jobs[1].called == 0)
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    evl_library_shutdown();
}

static evl_timer_t closed_timer;

static void after_and_close(evl_work_t *req, int status) {
    trace_after(req, status);
    evl_close((evl_handle_t *)&closed_timer, trace_close);
}

TEST(pool_close_of_a_handle_in_a_callback) {
    open_loop();
    CHECK_EQ(evl_timer_init(&loop, &closed_timer), 0);
    closed_timer.data = text("x");
    CHECK_EQ(evl_timer_start(&closed_timer, never_timer, 3600000, 0), 0);
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, after_and_close), 0);
    run_all();
    CHECK_TRACE("wx");
    finish_all();
}

static int slow_calls;

static void slow_after(evl_work_t *req, int status) {
    after(req, status);
    slow_calls++;
    busy_ns(MS);
}

TEST(pool_callbacks_keep_to_the_budget_of_run_for) {
    int before, total = 0, left = 1;
    open_loop();
    for (int i = 0; i < 60; i++) {
        clear_job(&jobs[i]);
        CHECK_EQ(evl_queue_work(&loop, &jobs[i].req, work, slow_after), 0);
    }
    test_sleep_ms(20);
    while (left != 0) {
        before = slow_calls;
        left = evl_run_for(&loop, 5 * MS);
        CHECK_LE(slow_calls - before, 6); /* each takes a millisecond or more */
        total += slow_calls - before;
    }
    CHECK_EQ(total, 60);
    for (int i = 0; i < 60; i++)
        check_done(&jobs[i], 0);
    finish_all();
}

TEST(pool_allocates_nothing_once_warm) {
    open_loop();
    for (int i = 0; i < 100; i++)
        queue(&jobs[i]);
    run_all();
    size_t calls = test_alloc_calls();
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 1000; i++)
            queue(&jobs[i]);
        run_all();
    }
    CHECK_EQ(test_alloc_calls(), calls);
    finish_all();
}

/* ---- Pools ----------------------------------------------------------------------------------- */

static evl_pool_t pool;
static evl_pool_options_t options;
static evl_pool_stats_t stats;

static void open_pool(unsigned threads) {
    memset(&pool, 0xa5, sizeof(pool));
    memset(&options, 0, sizeof(options));
    options.threads = threads;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
}

TEST(pool_of_its_own) {
    open_loop();
    memset(&pool, 0xa5, sizeof(pool));
    pool.data = &jobs;
    CHECK_EQ(evl_pool_init(&pool, NULL), 0);
    CHECK_PTR(pool.data, &jobs);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    for (int i = 0; i < 100; i++)
        queue(&jobs[i]);
    run_all();
    for (int i = 0; i < 100; i++)
        check_done(&jobs[i], 0);
    CHECK_EQ(evl_loop_set_pool(&loop, NULL), 0);
    queue(&jobs[0]);
    CHECK_EQ(evl_pool_close(&pool), 0); /* which nobody uses any more */
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

TEST(pool_bounds_of_threads) {
    memset(&options, 0, sizeof(options));
    options.threads = 1025;
    CHECK_EQ(evl_pool_init(&pool, &options), EVL_EINVAL);
    options.threads = (unsigned)-1;
    CHECK_EQ(evl_pool_init(&pool, &options), EVL_EINVAL);
    options.threads = 1024;
    CHECK_EQ(evl_pool_init(&pool, &options), 0); /* they start at the first use */
    CHECK_EQ(evl_pool_close(&pool), 0);
}

TEST(pool_stats_of_an_unused_pool) {
    open_pool(2);
    CHECK_EQ(evl_pool_stats(&pool, NULL), EVL_EINVAL);
    memset(&stats, 0xa5, sizeof(stats));
    CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    CHECK_EQ(stats.idle, stats.threads);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(stats.running, 0);
    CHECK_EQ(stats.completed, 0);
    CHECK_EQ(evl_histogram_count(&stats.wait_ns), 0);
    CHECK_EQ(evl_histogram_count(&stats.run_ns), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

/* ---- Cancelling, wherever jobs run ----------------------------------------------------------- */

static void cancel_self(evl_work_t *req, int status) {
    after(req, status);
    CHECK_EQ(evl_cancel((evl_req_t *)req), EVL_EBUSY);
}

TEST(pool_cancel_of_what_has_been_called_back) {
    open_loop();
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, work, cancel_self), 0);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&jobs[0].req), EVL_EBUSY);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

TEST(pool_cancel_of_other_requests) {
    static const evl_req_type types[] = {EVL_UNKNOWN_REQ, EVL_REQ,      EVL_CONNECT, EVL_WRITE,
                                         EVL_SHUTDOWN,    EVL_UDP_SEND, EVL_PUMP};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        job_t job;
        memset(&job, 0, sizeof(job));
        job.req.type = types[i];
        CHECK_EQ(evl_cancel((evl_req_t *)&job.req), EVL_EINVAL);
    }
}

#ifdef EVLOOP_NO_THREADS

TEST(pool_cancel_of_what_waits_for_the_loop) {
    open_loop();
    CHECK_EQ(queue_on(&loop, &jobs[0], never_work), 0);
    queue(&jobs[1]);
    CHECK_EQ(evl_cancel((evl_req_t *)&jobs[0].req), 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&jobs[0].req), EVL_EBUSY);
    CHECK_EQ(jobs[0].called, 0);
    run_all();
    check_done(&jobs[0], EVL_ECANCELED);
    check_done(&jobs[1], 0);
    finish_all();
}

static void cancel_while_running(evl_work_t *req) {
    work(req);
    CHECK_EQ(evl_cancel((evl_req_t *)req), EVL_EBUSY);
}

TEST(pool_cancel_of_what_runs_on_the_loop) {
    open_loop();
    CHECK_EQ(queue_on(&loop, &jobs[0], cancel_while_running), 0);
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

TEST(pool_destroy_cancels_what_waits_for_the_loop) {
    open_loop();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], never_work), 0);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    for (int i = 0; i < 10; i++)
        check_done(&jobs[i], EVL_ECANCELED);
}

static int nested;

static void note_nesting(evl_work_t *req) {
    CHECK_EQ(nested, 0);
    work(req);
}

static void nest(evl_work_t *req, int status) {
    after(req, status);
    nested = 1;
    if (chain_left-- > 0)
        CHECK_EQ(evl_queue_work(&loop, req, note_nesting, nest), 0);
    nested = 0;
}

TEST(pool_work_never_runs_inside_of_queue_work) {
    open_loop();
    chain_left = 100;
    nested = 1;
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, note_nesting, nest), 0);
    nested = 0;
    run_all();
    CHECK_EQ(jobs[0].worked, 101);
    finish_all();
}

#else

/* ---- Threads --------------------------------------------------------------------------------- */

static void open_both(unsigned threads) {
    open_loop();
    open_pool(threads);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
}

static void finish_both(void) {
    finish(&loop);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

static evl_thread_t loop_thread, work_thread;

static void note_thread(evl_work_t *req) {
    work_thread = evl_thread_self();
    work(req);
}

static void check_thread(evl_work_t *req, int status) {
    evl_thread_t self = evl_thread_self();
    CHECK(evl_thread_equal(&self, &loop_thread));
    CHECK(!evl_thread_equal(&self, &work_thread));
    after(req, status);
}

TEST(pool_work_runs_on_a_thread_of_the_pool) {
    open_both(1);
    loop_thread = evl_thread_self();
    for (int i = 0; i < 10; i++) {
        clear_job(&jobs[0]);
        CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, note_thread, check_thread), 0);
        run_all();
        check_done(&jobs[0], 0);
    }
    finish_both();
}

/* A job that has no loop running yet still runs. */
TEST(pool_work_begins_before_the_loop_runs) {
    open_both(1);
    queue(&jobs[0]);
    do {
        os_yield();
        CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    } while (stats.completed == 0);
    CHECK_EQ(jobs[0].called, 0);
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

static int order;

static void note_order(evl_work_t *req) {
    work(req);
    ((job_t *)req->data)->order = order++;
}

TEST(pool_of_one_thread_works_in_order) {
    open_both(1);
    for (int round = 0; round < 20; round++) {
        order = 0;
        for (int i = 0; i < 500; i++)
            CHECK_EQ(queue_on(&loop, &jobs[i], note_order), 0);
        run_all();
        for (int i = 0; i < 500; i++) {
            check_done(&jobs[i], 0);
            CHECK_EQ(jobs[i].order, i);
        }
    }
    finish_both();
}

/* Bursts of every size on a pool, each job with a number that the callbacks add up. */
static void work_in_bursts(evl_loop_t *l, job_t *mine, int total) {
    static const int bursts[] = {1, 7, 64, 1000};
    for (int b = 0; b < 4; b++) {
        int done = 0;
        int left =
            bursts[b] == 1 ? total / 10 : total; /* a burst of 1 is a turn of the loop each */
        while (done < left) {
            for (int i = 0; i < bursts[b]; i++)
                CHECK_EQ(queue_on(l, &mine[i], work), 0);
            CHECK_EQ(evl_run(l, EVL_RUN_DEFAULT), 0);
            for (int i = 0; i < bursts[b]; i++)
                check_done(&mine[i], 0);
            done += bursts[b];
        }
    }
}

TEST(pool_of_1_under_load) {
    open_both(1);
    work_in_bursts(&loop, jobs, 10000);
    finish_both();
}

TEST(pool_of_2_under_load) {
    open_both(2);
    work_in_bursts(&loop, jobs, 10000);
    finish_both();
}

TEST(pool_of_4_under_load) {
    open_both(4);
    work_in_bursts(&loop, jobs, 10000);
    finish_both();
}

TEST(pool_of_16_under_load) {
    open_both(16);
    work_in_bursts(&loop, jobs, 10000);
    finish_both();
}

static void *run_bursts(void *arg) {
    evl_loop_t *own = (evl_loop_t *)malloc(sizeof(*own));
    CHECK(own != NULL);
    CHECK_EQ(evl_loop_init(own), 0);
    CHECK_EQ(evl_loop_set_pool(own, &pool), 0);
    work_in_bursts(own, (job_t *)arg, 5000);
    CHECK_EQ(evl_loop_close(own), 0);
    free(own);
    return NULL;
}

/* Four loops that all start using a pool at once. */
TEST(pool_shared_by_loops_in_threads) {
    static job_t of_thread[4][1000];
    os_thread_t threads[4];
    for (int round = 0; round < 3; round++) {
        open_pool(3);
        for (int i = 0; i < 4; i++)
            start_thread(&threads[i], run_bursts, of_thread[i]);
        for (int i = 0; i < 4; i++)
            join_thread(threads[i]);
        CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
        CHECK_EQ(stats.threads, 3);
        CHECK_EQ(evl_pool_close(&pool), 0);
    }
}

/* Jobs at any distance in time, so that threads are just falling asleep: none is lost. */
TEST(pool_wakes_for_each_job) {
    open_both(2);
    for (int i = 0; i < (test_slow() ? 2000 : 20000); i++) {
        queue(&jobs[0]);
        if (i % 3 == 0)
            queue(&jobs[1]);
        run_all(); /* sleeps for ever if one is lost */
        busy_ns((uint64_t)(i % 50) * 200);
    }
    finish_both();
}

static void spin(int turns) {
    volatile int turned = 0;
    while (turned < turns)
        turned = turned + 1;
}

/* The same with a loop that looks without sleeping, and one thread. */
TEST(pool_wakes_for_each_job_at_once) {
    open_both(1);
    for (int i = 0; i < (test_slow() ? 3000 : OS_STORM(40000)); i++) {
        queue(&jobs[0]);
        while (evl_run(&loop, EVL_RUN_NOWAIT) != 0)
            continue;
        spin(i % 400);
    }
    finish_both();
}

/* ---- Jobs that hold their thread ------------------------------------------------------------- */

static os_sem_t begun, gate;

static void hold(evl_work_t *req) {
    os_sem_post(&begun);
    os_sem_wait(&gate);
    work(req);
}

static void init_gate(void) {
    os_sem_init(&begun);
    os_sem_init(&gate);
}

static void open_gate(int count) {
    for (int i = 0; i < count; i++)
        os_sem_post(&gate);
}

static void await_begun(int count) {
    for (int i = 0; i < count; i++)
        os_sem_wait(&begun);
}

static job_t holders[64];

/* Has as many threads of the loop's pool wait at the gate. */
static void occupy(int count) {
    init_gate();
    for (int i = 0; i < count; i++)
        CHECK_EQ(queue_on(&loop, &holders[i], hold), 0);
    await_begun(count);
}

static void check_holders(int count) {
    for (int i = 0; i < count; i++)
        check_done(&holders[i], 0);
}

static void long_work(evl_work_t *req) {
    test_sleep_ms(50);
    work(req);
}

static uint64_t last_short_ms;
static int short_left;

static void short_after(evl_work_t *req, int status) {
    after(req, status);
    if (--short_left == 0)
        last_short_ms = test_ms();
}

/* What a thread has taken on and not begun is done by others when its job takes long: the short ones
 * of a burst need not wait until the long ones have run one after the other. */
static void bursts_with_long_jobs(int count, int every) {
    uint64_t start = test_ms();
    int longs = 0;
    short_left = 0;
    for (int i = 0; i < count; i++) {
        clear_job(&jobs[i]);
        if (i % every == 0) {
            longs++;
            CHECK_EQ(evl_queue_work(&loop, &jobs[i].req, long_work, after), 0);
        } else {
            short_left++;
            CHECK_EQ(evl_queue_work(&loop, &jobs[i].req, work, short_after), 0);
        }
    }
    run_all();
    for (int i = 0; i < count; i++)
        check_done(&jobs[i], 0);
    CHECK_GE(test_ms() - start, 50);
    if (!test_slow()) /* the long ones one after the other would take 50 ms each */
        CHECK_LT(last_short_ms - start, (uint64_t)longs * 50 / 2);
}

TEST(pool_long_jobs_hold_up_no_others) {
    open_both(4);
    queue(&jobs[0]);
    run_all();
    for (int round = 0; round < 3; round++)
        bursts_with_long_jobs(128, 16);
    finish_both();
}

/* A job at the gate and a burst behind it: all of that is done while the gate is closed. */
TEST(pool_all_but_the_held_jobs_are_done) {
    open_both(2);
    for (int round = 0; round < 50; round++) {
        init_gate();
        for (int i = 0; i < 100; i++)
            CHECK_EQ(queue_on(&loop, &jobs[i], i == round ? hold : work), 0);
        for (int done = 0; done < 99;) {
            CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 1);
            done = 0;
            for (int i = 0; i < 100; i++)
                done += jobs[i].called;
        }
        CHECK_EQ(jobs[round].called, 0);
        open_gate(1);
        run_all();
        CHECK_EQ(jobs[round].called, 1);
    }
    finish_both();
}

/* Each thread sleeps, then all are needed at once. */
TEST(pool_uses_all_its_threads) {
    open_both(8);
    for (int round = 0; round < 50; round++) {
        occupy(8); /* waits until all have begun */
        open_gate(8);
        run_all();
        check_holders(8);
        if (round % 2)
            test_sleep_ms(1);
    }
    finish_both();
}

TEST(pool_blocked_default_delays_no_other) {
    static evl_loop_t other;
    static job_t own;
    open_loop();
    occupy(4);
    queue(&jobs[0]); /* has no thread */
    CHECK_EQ(evl_loop_init(&other), 0);
    open_pool(1);
    CHECK_EQ(evl_loop_set_pool(&other, &pool), 0);
    CHECK_EQ(queue_on(&other, &own, work), 0);
    CHECK_EQ(evl_run(&other, EVL_RUN_DEFAULT), 0);
    check_done(&own, 0);
    test_sleep_ms(20);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
    CHECK_EQ(jobs[0].called, 0);
    CHECK_EQ(evl_pool_stats(NULL, &stats), 0);
    CHECK_EQ(stats.queued, 1);
    CHECK_EQ(stats.running, 4);
    CHECK_EQ(stats.idle, 0);
    open_gate(4);
    run_all();
    check_done(&jobs[0], 0);
    check_holders(4);
    CHECK_EQ(evl_loop_close(&other), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
    finish_all();
}

/* What is outstanding stays with the pool it was given to. */
TEST(pool_change_with_jobs_outstanding) {
    open_both(1);
    occupy(1);
    queue(&jobs[0]);
    CHECK_EQ(queue_on(&loop, &jobs[1], never_work), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, NULL), 0);
    queue(&jobs[2]);
    while (jobs[2].called == 0)
        CHECK_EQ(evl_run(&loop, EVL_RUN_ONCE), 1);
    CHECK_EQ(jobs[0].called, 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&jobs[1].req), 0);
    open_gate(1);
    run_all();
    check_holders(1);
    check_done(&jobs[0], 0);
    check_done(&jobs[1], EVL_ECANCELED);
    CHECK_EQ(evl_pool_close(&pool), 0);
    finish_all();
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

static void cancel(job_t *job, int expected) {
    CHECK_EQ(evl_cancel((evl_req_t *)&job->req), expected);
}

TEST(pool_cancel_of_what_is_queued) {
    open_both(2);
    occupy(2);
    for (int i = 0; i < 40; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], i % 2 ? work : never_work), 0);
    for (int i = 0; i < 40; i += 2) {
        cancel(&jobs[i], 0);
        cancel(&jobs[i], EVL_EBUSY);
        CHECK_EQ(jobs[i].called, 0);
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1); /* the pool is as busy as before */
    for (int i = 0; i < 40; i++)
        CHECK_EQ(jobs[i].called, i % 2 == 0);
    CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    CHECK_EQ(stats.queued, 20);
    open_gate(2);
    run_all();
    for (int i = 0; i < 40; i++)
        check_done(&jobs[i], i % 2 ? 0 : EVL_ECANCELED);
    check_holders(2);
    finish_both();
}

/* Also what a thread has taken on behind a long job. */
TEST(pool_cancel_of_what_is_behind_a_long_job) {
    open_both(1);
    init_gate();
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 100; i++)
            CHECK_EQ(queue_on(&loop, &jobs[i], i == 0 ? hold : never_work), 0);
        await_begun(1);
        for (int i = 99; i > 0; i--)
            cancel(&jobs[i], 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
        for (int i = 1; i < 100; i++)
            check_done(&jobs[i], EVL_ECANCELED);
        open_gate(1);
        run_all();
        check_done(&jobs[0], 0);
    }
    finish_both();
}

TEST(pool_cancel_of_what_runs) {
    open_both(1);
    occupy(1);
    cancel(&holders[0], EVL_EBUSY);
    open_gate(1);
    run_all();
    check_holders(1);
    finish_both();
}

static void await_completed(uint64_t count) {
    do {
        os_yield();
        CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    } while (stats.completed < count);
    CHECK_EQ(stats.completed, count);
}

/* Threads that have done nothing yet take one job at a time: what was queued first begins first. */
TEST(pool_jobs_begin_in_order) {
    open_both(4);
    init_gate();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(queue_on(&loop, &holders[i], hold), 0);
    for (int i = 0; i < 60; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], never_work), 0);
    await_begun(4);
    for (int i = 0; i < 60; i++)
        cancel(&jobs[i], 0);
    open_gate(4);
    run_all();
    check_holders(4);
    finish_both();
}

static void short_work(evl_work_t *req) {
    busy_ns(10000);
    work(req);
}

static int old_jobs_left;

static void after_old(evl_work_t *req, int status) {
    after(req, status);
    old_jobs_left--;
}

static void after_feeder(evl_work_t *req, int status) {
    CHECK_EQ(status, 0);
    if (old_jobs_left > 0)
        CHECK_EQ(evl_queue_work(&loop, req, short_work, after_feeder), 0);
}

static void very_long_work(evl_work_t *req) {
    test_sleep_ms(1000);
    work(req);
}

/* Threads that did short jobs take several at a time. When the first of these turns out to be long,
 * those behind it go to others, even if there is always something newer. */
TEST(pool_a_long_job_holds_up_no_other) {
    enum { QUICK = 60, OLD = 100, FEEDERS = 800 };
    job_t *job = jobs, *slow = &jobs[QUICK];
    open_both(2);
    occupy(2);
    for (; job < slow; job++)
        queue(job);
    CHECK_EQ(queue_on(&loop, job++, very_long_work), 0);
    for (old_jobs_left = 0; old_jobs_left < OLD; old_jobs_left++, job++) {
        clear_job(job);
        CHECK_EQ(evl_queue_work(&loop, &job->req, work, after_old), 0);
    }
    for (int i = 0; i < FEEDERS; i++, job++) {
        clear_job(job);
        CHECK_EQ(evl_queue_work(&loop, &job->req, short_work, after_feeder), 0);
    }
    open_gate(2);
    uint64_t start = test_ms();
    while (old_jobs_left > 0)
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_LT(test_ms() - start, 900);
    CHECK_EQ(slow->called, 0);
    run_all();
    check_done(slow, 0);
    check_holders(2);
    finish_both();
}

/* Bursts of short jobs make a pool lazy: it wakes few threads, and the loop late. A job that takes long
 * among them, first, last or in the middle, must hold up neither those behind it nor the callbacks of
 * those before it: all others are called back while it still waits for the gate. */
enum { BURST = 48 };
static int burst_left;

static void burst_done(evl_work_t *req, int status) {
    after(req, status);
    burst_left--;
}

static void run_burst(int size, int held_at, int held) {
    for (burst_left = 0; burst_left < size; burst_left++) {
        job_t *job = &jobs[burst_left];
        clear_job(job);
        CHECK_EQ(evl_queue_work(&loop, &job->req, work, burst_done), 0);
        if (burst_left == held_at) {
            init_gate();
            for (int i = 0; i < held; i++)
                CHECK_EQ(queue_on(&loop, &holders[i], hold), 0);
        }
    }
    while (burst_left > 0)
        CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    for (int i = 0; i < size; i++)
        check_done(&jobs[i], 0);
}

static void burst_timer(evl_timer_t *timer) {
    (void)timer;
}

static void run_bursts_and_long_jobs(int bursts, int size, int held_at, int held) {
    for (int i = 0; i < bursts; i++)
        run_burst(size, -1, 0);
    run_burst(size, held_at, held);
    for (int i = 0; i < held; i++)
        CHECK_EQ(holders[i].called, 0);
    open_gate(held);
    for (int i = 0; i < held; i++)
        while (!holders[i].called)
            CHECK_NE(evl_run(&loop, EVL_RUN_ONCE), 0);
    check_holders(held);
}

TEST(pool_a_long_job_among_bursts_of_short_ones) {
    evl_timer_t timer; /* keeps the loop alive */
    open_both(4);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, burst_timer, 3600000, 0), 0);
    run_bursts_and_long_jobs(20, BURST, 0, 1);
    run_bursts_and_long_jobs(20, BURST, 20, 1);
    run_bursts_and_long_jobs(20, BURST, BURST - 1, 1);
    run_bursts_and_long_jobs(1000, 1, 0, 1);
    evl_close((evl_handle_t *)&timer, NULL);
    run_all();
    finish_both();
}

/* There is one thread for all else. */
TEST(pool_three_long_jobs_among_bursts_of_short_ones) {
    evl_timer_t timer;
    open_both(4);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, burst_timer, 3600000, 0), 0);
    for (int i = 0; i < BURST; i += 3)
        run_bursts_and_long_jobs(20, BURST, i, 3);
    evl_close((evl_handle_t *)&timer, NULL);
    run_all();
    finish_both();
}

/* A thread that has had short jobs one after the other looks out for the next one, but not for long. */
TEST(pool_without_jobs_needs_no_processor) {
    open_both(4);
    for (int i = 0; i < 1000; i++) {
        queue(&jobs[0]);
        run_all();
    }
    check_done(&jobs[0], 0);
    uint64_t before = os_cpu_ms();
    evl_sleep(300);
    CHECK_LT(os_cpu_ms() - before, test_slow() ? 150 : 50);
    finish_both();
}

TEST(pool_cancel_of_what_is_done_but_not_called_back) {
    open_both(1);
    queue(&jobs[0]);
    await_completed(1);
    cancel(&jobs[0], EVL_EBUSY);
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

static void requeue(evl_work_t *req, int status) {
    CHECK_EQ(status, EVL_ECANCELED);
    after(req, status);
    CHECK_EQ(evl_queue_work(&loop, req, work, after), 0);
}

/* A request may be used again in the very callback that cancelled it. */
TEST(pool_cancelled_request_is_queued_again) {
    open_both(1);
    occupy(1);
    clear_job(&jobs[0]);
    CHECK_EQ(evl_queue_work(&loop, &jobs[0].req, never_work, requeue), 0);
    cancel(&jobs[0], 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
    CHECK_EQ(jobs[0].called, 1);
    open_gate(1);
    run_all();
    CHECK_EQ(jobs[0].called, 2);
    CHECK_EQ(jobs[0].status, 0);
    CHECK_EQ(jobs[0].worked, 1);
    finish_both();
}

static int race_called, race_cancelled;

static void free_after(evl_work_t *req, int status) {
    job_t *job = (job_t *)req->data;
    CHECK(status == 0 || status == EVL_ECANCELED);
    CHECK_EQ(job->worked, status == 0);
    CHECK_EQ(job->order, status == EVL_ECANCELED); /* what evl_cancel answered */
    race_called++;
    memset(job, 0xa5, sizeof(*job));
    free(job);
}

/* Each gets exactly one callback, of which evl_cancel knew; its memory is gone after that. */
TEST(pool_cancel_against_finish) {
    int rounds = test_slow() ? 300 : 2000;
    open_both(3);
    srand(1);
    for (int round = 0; round < rounds; round++) {
        job_t *racers[24];
        for (int i = 0; i < 24; i++) {
            racers[i] = (job_t *)malloc(sizeof(job_t));
            CHECK(racers[i] != NULL);
            clear_job(racers[i]);
            CHECK_EQ(evl_queue_work(&loop, &racers[i]->req, work, free_after), 0);
        }
        busy_ns((uint64_t)(rand() % 100) * 200);
        for (int i = 23; i >= 0; i--) {
            int result = evl_cancel((evl_req_t *)&racers[i]->req);
            CHECK(result == 0 || result == EVL_EBUSY);
            racers[i]->order = result == 0;
            race_cancelled += result == 0;
        }
        run_all();
        CHECK_EQ(race_called, 24 * (round + 1));
    }
    CHECK_GT(race_cancelled, 0);
    finish_both();
}

/* ---- Bounded queues -------------------------------------------------------------------------- */

static void open_bounded(unsigned threads, unsigned max_queue) {
    open_loop();
    memset(&pool, 0xa5, sizeof(pool));
    memset(&options, 0, sizeof(options));
    options.threads = threads;
    options.max_queue = max_queue;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
}

TEST(pool_full_queue_refuses) {
    open_bounded(1, 3);
    occupy(1);
    for (int i = 0; i < 3; i++)
        queue(&jobs[i]);
    for (int i = 0; i < 3; i++) {
        clear_job(&jobs[3]);
        CHECK_EQ(evl_queue_work(&loop, &jobs[3].req, never_work, never_after), EVL_ENOBUFS);
    }
    CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    CHECK_EQ(stats.queued, 3);
    open_gate(1);
    run_all();
    for (int i = 0; i < 3; i++)
        check_done(&jobs[i], 0);
    queue(&jobs[3]); /* the refused request is as good as new */
    run_all();
    check_done(&jobs[3], 0);
    check_holders(1);
    finish_both();
}

TEST(pool_full_queue_has_room_once_one_has_begun) {
    open_bounded(1, 2);
    occupy(1);
    CHECK_EQ(queue_on(&loop, &jobs[0], hold), 0);
    queue(&jobs[1]);
    CHECK_EQ(queue_on(&loop, &jobs[2], work), EVL_ENOBUFS);
    open_gate(1);
    await_begun(1); /* jobs[0] */
    queue(&jobs[2]);
    CHECK_EQ(queue_on(&loop, &jobs[3], work), EVL_ENOBUFS);
    open_gate(1);
    run_all();
    for (int i = 0; i < 3; i++)
        check_done(&jobs[i], 0);
    CHECK_EQ(jobs[3].called, 0);
    finish_both();
}

TEST(pool_full_queue_has_room_once_one_is_cancelled) {
    open_bounded(1, 2);
    occupy(1);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(queue_on(&loop, &jobs[0], never_work), 0);
        CHECK_EQ(queue_on(&loop, &jobs[1], never_work), 0);
        CHECK_EQ(queue_on(&loop, &jobs[2], never_work), EVL_ENOBUFS);
        cancel(&jobs[0], 0);
        cancel(&jobs[1], 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
        check_done(&jobs[0], EVL_ECANCELED);
        check_done(&jobs[1], EVL_ECANCELED);
        CHECK_EQ(jobs[2].called, 0);
    }
    open_gate(1);
    run_all();
    finish_both();
}

static void never_random(evl_random_t *req, int status, void *buf, size_t buflen) {
    (void)buf;
    (void)buflen;
    never_after((evl_work_t *)req, status);
}

TEST(pool_full_queue_refuses_random) {
    evl_random_t req;
    char bytes[8];
    open_bounded(1, 1);
    occupy(1);
    queue(&jobs[0]);
    CHECK_EQ(evl_random(&loop, &req, bytes, sizeof(bytes), 0, never_random), EVL_ENOBUFS);
    open_gate(1);
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

/* ---- Options --------------------------------------------------------------------------------- */

TEST(pool_has_4_threads_unless_told) {
    open_both(0);
    queue(&jobs[0]);
    run_all();
    CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    CHECK_EQ(stats.threads, 4);
    finish_both();
}

/* Frames of 16 KiB each. */
static int go_down(int frames) {
    volatile char frame[16 * 1024];
    for (size_t i = 0; i < sizeof(frame); i += 1024)
        frame[i] = (char)frames;
    return frames == 0 ? 0 : go_down(frames - 1) + (frame[1024] == (char)frames);
}

static void deep_work(evl_work_t *req) {
    int frames = test_slow() ? 3 : 56; /* the thread sanitizer takes most of a MiB for itself */
    CHECK_EQ(go_down(frames), frames);
    work(req);
}

TEST(pool_stacks_have_the_size_asked_for) {
    open_loop();
    memset(&options, 0, sizeof(options));
    options.threads = 2;
    options.stack_size = 1024 * 1024;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], deep_work), 0);
    run_all();
    for (int i = 0; i < 8; i++)
        check_done(&jobs[i], 0);
    finish_both();
}

/* Where no thread can be started there is an error, and no job is left. */
TEST(pool_without_a_thread_refuses) {
    open_loop();
    memset(&options, 0, sizeof(options));
    options.stack_size = sizeof(size_t) == 4 ? (size_t)0xe0000000 : ~(size_t)0 / 4 + 1;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    clear_job(&jobs[0]);
    for (int i = 0; i < 3; i++)
        CHECK_LT(evl_queue_work(&loop, &jobs[0].req, never_work, never_after), 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    CHECK_EQ(evl_loop_set_pool(&loop, NULL), 0);
    queue(&jobs[0]);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
    finish_all();
}

/* ---- The end of a pool ----------------------------------------------------------------------- */

static void *open_gate_soon(void *arg) {
    test_sleep_ms(20);
    open_gate(*(int *)arg);
    return NULL;
}

TEST(pool_close_finishes_what_is_queued) {
    os_thread_t thread;
    int held = 2;
    open_both(2);
    occupy(2);
    for (int i = 0; i < 500; i++)
        queue(&jobs[i]);
    start_thread(&thread, open_gate_soon, &held);
    CHECK_EQ(evl_pool_close(&pool), 0);
    join_thread(thread);
    for (int i = 0; i < 500; i++) { /* the threads are joined: their work is to be seen */
        CHECK_EQ(jobs[i].worked, 1);
        CHECK_EQ(jobs[i].called, 0);
    }
    run_all();
    for (int i = 0; i < 500; i++)
        check_done(&jobs[i], 0);
    check_holders(2);
    finish(&loop);
}

/* What came back from a pool that is gone has nothing to do with it any more. */
TEST(pool_close_before_the_callbacks) {
    open_both(2);
    for (int i = 0; i < 20; i++)
        queue(&jobs[i]);
    CHECK_EQ(evl_pool_close(&pool), 0);
    memset(&pool, 0xa5, sizeof(pool));
    cancel(&jobs[0], EVL_EBUSY);
    CHECK_EQ(evl_loop_destroy(&loop, 1000), 0);
    for (int i = 0; i < 20; i++)
        check_done(&jobs[i], 0);
}

static void close_own_pool(evl_work_t *req) {
    CHECK_EQ(evl_pool_close(&pool), EVL_EBUSY);
    work(req);
}

TEST(pool_close_in_one_of_its_jobs) {
    open_both(3);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], close_own_pool), 0);
    run_all();
    for (int i = 0; i < 10; i++)
        check_done(&jobs[i], 0);
    queue(&jobs[0]); /* it goes on as before */
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

static void use_other_pool(evl_work_t *req) {
    evl_pool_t other;
    CHECK_EQ(evl_pool_init(&other, NULL), 0);
    CHECK_EQ(evl_pool_close(&other), 0);
    work(req);
}

TEST(pool_close_in_a_job_of_another) {
    open_both(1);
    CHECK_EQ(queue_on(&loop, &jobs[0], use_other_pool), 0);
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

static void await_running(unsigned count) {
    do {
        os_yield();
        CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    } while (stats.running != count);
}

TEST(pool_stats_count) {
    open_both(3);
    occupy(2);
    await_running(2); /* the third thread may be about to see that nothing is left for it */
    CHECK_EQ(stats.threads, 3);
    CHECK_EQ(stats.idle, 1);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(stats.completed, 0);
    CHECK_EQ(queue_on(&loop, &holders[2], hold), 0);
    await_begun(1);
    for (int i = 0; i < 5; i++)
        queue(&jobs[i]);
    test_sleep_ms(30);
    CHECK_EQ(evl_pool_stats(&pool, &stats), 0);
    CHECK_EQ(stats.running, 3);
    CHECK_EQ(stats.idle, 0);
    CHECK_EQ(stats.queued, 5);
    open_gate(3);
    run_all();
    await_completed(8);
    await_running(0);
    CHECK_EQ(stats.idle, 3);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(evl_histogram_count(&stats.wait_ns), 8);
    CHECK_EQ(evl_histogram_count(&stats.run_ns), 8);
    CHECK_GE(evl_histogram_max(&stats.wait_ns), 30 * MS); /* those behind the gate */
    CHECK_GE(evl_histogram_max(&stats.run_ns), 30 * MS);
    CHECK_LT(evl_histogram_max(&stats.wait_ns), 60000 * MS);
    CHECK_LT(evl_histogram_min(&stats.run_ns), evl_histogram_max(&stats.run_ns));
    finish_both();
}

/* A job that is cancelled has not been completed. */
TEST(pool_stats_leave_out_what_is_cancelled) {
    open_both(1);
    occupy(1);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(queue_on(&loop, &jobs[i], never_work), 0);
        cancel(&jobs[i], 0);
    }
    open_gate(1);
    run_all();
    await_completed(1);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(evl_histogram_count(&stats.wait_ns), 1);
    finish_both();
}

/* ---- The end of a loop ----------------------------------------------------------------------- */

TEST(pool_destroy_cancels_what_waits) {
    open_both(1);
    occupy(1);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], never_work), 0);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    for (int i = 0; i < 3; i++) {
        uint64_t start = test_ms();
        CHECK_EQ(evl_loop_destroy(&loop, 30), EVL_ETIMEDOUT);
        CHECK_GE(test_ms() - start, 29);
        for (int n = 0; n < 50; n++)
            check_done(&jobs[n], EVL_ECANCELED);
    }
    CHECK_EQ(holders[0].called, 0);
    open_gate(1);
    CHECK_EQ(evl_loop_destroy(&loop, 10000), 0);
    check_holders(1);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

TEST(pool_destroy_waits_for_what_runs) {
    os_thread_t thread;
    int held = 2;
    open_both(2);
    occupy(2);
    start_thread(&thread, open_gate_soon, &held);
    CHECK_EQ(evl_loop_destroy(&loop, 10000), 0);
    check_holders(2);
    join_thread(thread);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

/* It sleeps while it waits. */
TEST(pool_destroy_waits_without_the_processor) {
    open_both(1);
    occupy(1);
    uint64_t before = os_cpu_ms();
    CHECK_EQ(evl_loop_destroy(&loop, 500), EVL_ETIMEDOUT);
    CHECK_LT(os_cpu_ms() - before, test_slow() ? 250 : 100);
    open_gate(1);
    CHECK_EQ(evl_loop_destroy(&loop, 10000), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

TEST(pool_destroy_leaves_the_jobs_of_others) {
    static evl_loop_t other;
    static job_t of_other[50];
    open_both(1);
    CHECK_EQ(evl_loop_init(&other), 0);
    CHECK_EQ(evl_loop_set_pool(&other, &pool), 0);
    init_gate();
    CHECK_EQ(queue_on(&other, &holders[0], hold), 0);
    await_begun(1);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(queue_on(&other, &of_other[i], work), 0);
        CHECK_EQ(queue_on(&loop, &jobs[i], never_work), 0);
    }
    CHECK_EQ(evl_loop_destroy(&loop, 10000), 0);
    for (int i = 0; i < 50; i++) {
        check_done(&jobs[i], EVL_ECANCELED);
        CHECK_EQ(of_other[i].called, 0);
    }
    open_gate(1);
    CHECK_EQ(evl_run(&other, EVL_RUN_DEFAULT), 0);
    for (int i = 0; i < 50; i++)
        check_done(&of_other[i], 0);
    check_holders(1);
    CHECK_EQ(evl_loop_close(&other), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

/* The last job of a loop tells it, and the loop is closed and its memory gone at once. */
TEST(pool_loop_close_right_after_the_last_job) {
    open_pool(2);
    for (int i = 0; i < (test_slow() ? 200 : 2000); i++) {
        evl_loop_t *own = (evl_loop_t *)malloc(sizeof(*own));
        CHECK(own != NULL);
        CHECK_EQ(evl_loop_init(own), 0);
        CHECK_EQ(evl_loop_set_pool(own, &pool), 0);
        CHECK_EQ(queue_on(own, &jobs[0], work), 0);
        CHECK_EQ(queue_on(own, &jobs[1], work), 0);
        while (evl_run(own, EVL_RUN_NOWAIT) != 0)
            continue;
        CHECK_EQ(evl_loop_close(own), 0);
        memset(own, 0xa5, sizeof(*own));
        free(own);
        check_done(&jobs[0], 0);
        check_done(&jobs[1], 0);
    }
    CHECK_EQ(evl_pool_close(&pool), 0);
}

/* ---- The default pool ------------------------------------------------------------------------ */

static unsigned default_threads(const char *value) {
    os_setenv("EVLOOP_THREADPOOL_SIZE", value);
    open_loop();
    queue(&jobs[0]);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_EQ(evl_pool_stats(NULL, &stats), 0);
    unsigned threads = stats.threads;
    finish_all();
    return threads;
}

TEST(pool_default_has_4_threads) {
    CHECK_EQ(default_threads(NULL), 4);
}

TEST(pool_default_size_1) {
    CHECK_EQ(default_threads("1"), 1);
}

TEST(pool_default_size_8) {
    CHECK_EQ(default_threads("8"), 8);
}

TEST(pool_default_size_0) {
    CHECK_EQ(default_threads("0"), 1);
}

TEST(pool_default_size_below_0) {
    CHECK_EQ(default_threads("-3"), 1);
}

TEST(pool_default_size_5000) {
    if (test_valgrind())
        SKIP("valgrind has room for 500 threads");
    unsigned threads = default_threads("5000");
    if (sizeof(void *) > 4)
        CHECK_EQ(threads, 1024);
    CHECK_GE(threads, 100); /* with 32 bits there is room for so many stacks */
    CHECK_LE(threads, 1024);
}

TEST(pool_default_size_that_is_no_number) {
    CHECK_EQ(default_threads("abc"), 1);
}

TEST(pool_default_size_empty) {
    CHECK_EQ(default_threads(""), 4);
}

static void *run_default(void *arg) {
    evl_loop_t *own = (evl_loop_t *)malloc(sizeof(*own));
    CHECK(own != NULL);
    CHECK_EQ(evl_loop_init(own), 0);
    work_in_bursts(own, (job_t *)arg, 1000);
    CHECK_EQ(evl_loop_close(own), 0);
    free(own);
    return NULL;
}

TEST(pool_default_first_used_by_many_threads) {
    static job_t of_thread[4][1000];
    os_thread_t threads[4];
    for (int i = 0; i < 4; i++)
        start_thread(&threads[i], run_default, of_thread[i]);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    CHECK_EQ(evl_pool_stats(NULL, &stats), 0);
    CHECK_EQ(stats.threads, 4);
    evl_library_shutdown();
}

/* ---- Without memory -------------------------------------------------------------------------- */

TEST(pool_init_without_memory) {
    int result = EVL_ENOMEM;
    open_loop();
    long live = test_alloc_live();
    for (long nth = 1; result != 0; nth++) {
        memset(&pool, 0xa5, sizeof(pool));
        test_alloc_fail(nth, 1);
        result = evl_pool_init(&pool, NULL);
        test_alloc_fail(0, 0);
        if (result != 0) {
            CHECK_EQ(result, EVL_ENOMEM);
            CHECK_EQ(test_alloc_live(), live);
            CHECK_LT(nth, 50);
        } else {
            CHECK_GT(nth, 1);
        }
    }
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    queue(&jobs[0]);
    run_all();
    check_done(&jobs[0], 0);
    finish_both();
}

/* The first use starts the threads. */
TEST(pool_first_use_without_memory) {
    for (long nth = 1; nth < 12; nth++) {
        open_both(2);
        clear_job(&jobs[0]);
        test_alloc_fail(nth, -1);
        int result = evl_queue_work(&loop, &jobs[0].req, work, after);
        test_alloc_fail(0, 0);
        CHECK(result == 0 || result == EVL_ENOMEM);
        CHECK_EQ(evl_loop_alive(&loop), result == 0);
        if (result != 0)
            queue(&jobs[0]);
        run_all();
        check_done(&jobs[0], 0);
        finish_both();
        CHECK_EQ(test_alloc_live(), 0);
    }
}

TEST(pool_default_without_memory) {
    open_loop();
    long live = test_alloc_live();
    for (long nth = 1; nth <= 3; nth++) {
        clear_job(&jobs[0]);
        test_alloc_fail(nth, -1);
        int result = evl_queue_work(&loop, &jobs[0].req, never_work, never_after);
        test_alloc_fail(0, 0);
        CHECK_EQ(result, EVL_ENOMEM);
        CHECK_EQ(evl_loop_alive(&loop), 0);
        CHECK_EQ(test_alloc_live(), live);
    }
    queue(&jobs[0]);
    run_all();
    check_done(&jobs[0], 0);
    finish_all();
}

#if defined(__linux__)

/* ---- What Linux tells of the threads --------------------------------------------------------- */

static char seen_name[32];

static void note_name(evl_work_t *req) {
    CHECK_EQ(pthread_getname_np(pthread_self(), seen_name, sizeof(seen_name)), 0);
    work(req);
}

static void check_name(const char *name, const char *expected) {
    open_loop();
    memset(&options, 0, sizeof(options));
    options.name = name;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    CHECK_EQ(queue_on(&loop, &jobs[0], note_name), 0);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_STR(seen_name, expected);
    finish_both();
}

TEST(pool_names_its_threads) {
    check_name("files", "files");
    check_name(NULL, "evloop");
    check_name("123456789012345", "123456789012345");
    check_name("1234567890123456", "123456789012345");
    check_name("", "");
}

static sigset_t seen_mask;

static void note_mask(evl_work_t *req) {
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &seen_mask), 0);
    work(req);
}

TEST(pool_threads_get_no_signals) {
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGHUP, SIGALRM};
    sigset_t before, now;
    open_both(1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
    CHECK_EQ(queue_on(&loop, &jobs[0], note_mask), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    run_all();
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        CHECK_EQ(sigismember(&seen_mask, signals[i]), 1);
        CHECK_EQ(sigismember(&now, signals[i]), sigismember(&before, signals[i]));
    }
    finish_both();
}

/* What a fault raises is for the thread at fault: blocked, it would end the process past every
 * handler. */
TEST(pool_threads_get_their_own_faults) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    open_both(1);
    CHECK_EQ(queue_on(&loop, &jobs[0], note_mask), 0);
    run_all();
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        CHECK_EQ(sigismember(&seen_mask, signals[i]), 0);
    finish_both();
}

static size_t seen_stack;

static void note_stack(evl_work_t *req) {
    pthread_attr_t attributes;
    CHECK_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
    CHECK_EQ(pthread_attr_getstacksize(&attributes, &seen_stack), 0);
    CHECK_EQ(pthread_attr_destroy(&attributes), 0);
    work(req);
}

TEST(pool_stacks_are_no_larger_than_asked_for) {
    open_loop();
    memset(&options, 0, sizeof(options));
    options.stack_size = 1024 * 1024;
    CHECK_EQ(evl_pool_init(&pool, &options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    CHECK_EQ(queue_on(&loop, &jobs[0], note_stack), 0);
    run_all();
    check_done(&jobs[0], 0);
    CHECK_GE(seen_stack, 1020 * 1024); /* the guard page may be counted */
    CHECK_LE(seen_stack, 2048 * 1024);
    finish_both();
}

static void *no_more(void *arg) {
    return arg;
}

static int count_tasks(void) {
    int count = 0;
    evl_file dir = open("/proc/self/status", O_RDONLY);
    char status[8192];
    CHECK_GE(dir, 0);
    long size = os_file_read(dir, status, sizeof(status) - 1);
    CHECK_GT(size, 0);
    status[size] = '\0';
    CHECK_EQ(os_file_close(dir), 0);
    const char *line = strstr(status, "\nThreads:");
    CHECK(line != NULL);
    CHECK_EQ(sscanf(line, "\nThreads: %d", &count), 1);
    return count;
}

/* The tasks at the start. A sanitizer starts one of its own with the first thread. */
static int first_tasks(void) {
    os_thread_t thread;
    start_thread(&thread, no_more, NULL);
    join_thread(thread);
    test_sleep_ms(20);
    return count_tasks();
}

/* A thread that has been joined may still be listed for a moment. */
static void await_tasks(int count) {
    uint64_t start = test_ms();
    while (count_tasks() != count && test_ms() - start < 5000)
        test_sleep_ms(1);
    CHECK_EQ(count_tasks(), count);
}

TEST(pool_shutdown_ends_the_threads) {
    SKIP_ON_LIBKQUEUE("it has threads of its own, which come and go");
    open_loop();
    int before = first_tasks();
    queue(&jobs[0]);
    run_all();
    CHECK_EQ(count_tasks(), before + 4);
    finish(&loop);
    CHECK_EQ(count_tasks(), before + 4);
    evl_library_shutdown();
    await_tasks(before);
    evl_library_shutdown(); /* again: nothing is left to do */
}

TEST(pool_close_ends_the_threads) {
    SKIP_ON_LIBKQUEUE("it has threads of its own, which come and go");
    open_loop();
    int before = first_tasks();
    open_pool(7);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
    CHECK_EQ(count_tasks(), before); /* they start when there is something to do */
    queue(&jobs[0]);
    CHECK_EQ(count_tasks(), before + 7);
    run_all();
    finish_both();
    await_tasks(before);
}

#endif /* __linux__ */

#if !defined(_WIN32) /* which has no fork */

/* ---- Fork ------------------------------------------------------------------------------------ */

#if defined(__SANITIZE_THREAD__)
#define NEED_THREADS_AFTER_FORK() SKIP("the thread sanitizer allows no threads in a forked child")
#else
#define NEED_THREADS_AFTER_FORK()                                                                  \
    do {                                                                                           \
        if (test_qemu())                                                                           \
            SKIP("qemu 7.2 aborts where a forked child starts threads");                           \
    } while (0)
#endif

static void expect_exit_0(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) != pid)
        CHECK_EQ(errno, EINTR);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

/* Has all threads of the loop's pool begun: one that is just starting may hold the allocator of a
 * sanitizer, which a child could then never have. */
static void start_threads(int count) {
    occupy(count);
    open_gate(count);
    run_all();
}

/* Returns in both processes, in the child with a loop that can run. */
static pid_t fork_with_loop(void) {
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0)
        CHECK_EQ(evl_loop_fork(&loop), 0);
    return pid;
}

/* The end of a test for both processes: the child's is waited for. */
static void finish_forked(pid_t pid) {
    finish_both();
    if (pid == 0)
        exit(0);
    expect_exit_0(pid);
}

static void run_jobs(int count) {
    for (int i = 0; i < count; i++)
        queue(&jobs[i]);
    run_all();
    for (int i = 0; i < count; i++)
        check_done(&jobs[i], 0);
}

/* What waits at the fork runs in both processes, what runs in the parent only. */
static void fork_with_jobs(int held, int queued) {
    occupy(held);
    for (int i = 0; i < queued; i++)
        queue(&jobs[i]);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(evl_loop_fork(&loop), 0);
        run_all();
        for (int i = 0; i < held; i++) {
            CHECK_EQ(holders[i].called, 1);
            CHECK_EQ(holders[i].status, EVL_ECANCELED);
        }
        for (int i = 0; i < queued; i++)
            check_done(&jobs[i], 0);
        queue(&jobs[0]);
        run_all();
        check_done(&jobs[0], 0);
    } else {
        expect_exit_0(pid);
        CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
        for (int i = 0; i < queued; i++) {
            CHECK_EQ(jobs[i].called, 0);
            CHECK_EQ(jobs[i].worked, 0);
        }
        open_gate(held);
        run_all();
        check_holders(held);
        for (int i = 0; i < queued; i++)
            check_done(&jobs[i], 0);
    }
    finish(&loop);
    if (pid == 0) {
        evl_pool_close(&pool);
        evl_library_shutdown();
        CHECK_EQ(test_alloc_live(), 0);
        exit(0);
    }
}

TEST(pool_fork_with_jobs) {
    NEED_THREADS_AFTER_FORK();
    open_both(2);
    fork_with_jobs(2, 100);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

TEST(pool_fork_with_jobs_of_the_default_pool) {
    NEED_THREADS_AFTER_FORK();
    open_pool(1); /* one that nobody uses */
    open_loop();
    fork_with_jobs(4, 30);
    CHECK_EQ(evl_pool_close(&pool), 0);
    evl_library_shutdown();
}

TEST(pool_fork_of_an_idle_pool) {
    NEED_THREADS_AFTER_FORK();
    open_both(2);
    start_threads(2);
    test_sleep_ms(10); /* they sleep */
    pid_t pid = fork_with_loop();
    run_jobs(10);
    finish_forked(pid);
}

TEST(pool_fork_before_the_first_use) {
    open_both(2);
    pid_t pid = fork_with_loop();
    run_jobs(10);
    finish_forked(pid);
}

/* Those done but not called back are called back in both; none of them runs a second time. */
TEST(pool_fork_with_jobs_done) {
    open_both(2);
    start_threads(2);
    for (int i = 0; i < 20; i++)
        queue(&jobs[i]);
    await_completed(22);
    pid_t pid = fork_with_loop();
    run_all();
    for (int i = 0; i < 20; i++)
        check_done(&jobs[i], 0);
    finish_forked(pid);
}

/* A cancelled one is reported as that. */
TEST(pool_fork_with_jobs_cancelled) {
    open_both(1);
    occupy(1);
    CHECK_EQ(queue_on(&loop, &jobs[0], never_work), 0);
    cancel(&jobs[0], 0);
    pid_t pid = fork_with_loop();
    if (pid != 0)
        open_gate(1);
    run_all();
    check_done(&jobs[0], EVL_ECANCELED);
    CHECK_EQ(holders[0].status, pid == 0 ? EVL_ECANCELED : 0);
    finish_forked(pid);
}

/* The child may end all without having run it. */
TEST(pool_fork_then_destroy_in_the_child) {
    NEED_THREADS_AFTER_FORK();
    open_both(1);
    occupy(1);
    for (int i = 0; i < 20; i++)
        queue(&jobs[i]);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(evl_loop_fork(&loop), 0);
        CHECK_EQ(evl_loop_destroy(&loop, 10000), 0);
        CHECK_EQ(evl_pool_close(&pool), 0);
        CHECK_EQ(holders[0].status, EVL_ECANCELED);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(jobs[i].called, 1);
        exit(0);
    }
    expect_exit_0(pid);
    open_gate(1);
    run_all();
    check_holders(1);
    for (int i = 0; i < 20; i++)
        check_done(&jobs[i], 0);
    finish_both();
}

static void never_poll(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
    test_fail(__FILE__, __LINE__, "this poll must not be told of anything");
}

/* evl_loop_fork that failed may be called again: no job is started or given up twice. */
TEST(pool_fork_that_is_repeated) {
    evl_os_sock_t sockets[2];
    evl_poll_t poll_handle;
    NEED_THREADS_AFTER_FORK();
    open_both(1);
    os_socketpair(sockets);
    CHECK_EQ(evl_poll_init_socket(&loop, &poll_handle, sockets[0]), 0);
    CHECK_EQ(evl_poll_start(&poll_handle, EVL_READABLE, never_poll), 0);
    occupy(1);
    for (int i = 0; i < 20; i++)
        queue(&jobs[i]);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        test_fault_set("epoll_ctl", 2, 1, ENOMEM); /* the first one is for what wakes the loop */
        test_fault_set("kevent_change", 2, 1, ENOMEM);
        int failed = evl_loop_fork(&loop) != 0;
        CHECK_EQ(failed, test_fault_hits("epoll_ctl") + test_fault_hits("kevent_change"));
        CHECK_EQ(evl_loop_fork(&loop), 0);
        test_sleep_ms(20); /* the jobs are done before the loop looks */
        test_fault_clear();
    } else {
        expect_exit_0(pid);
        open_gate(1);
    }
    evl_close((evl_handle_t *)&poll_handle, NULL);
    run_all();
    CHECK_EQ(holders[0].called, 1);
    CHECK_EQ(holders[0].status, pid == 0 ? EVL_ECANCELED : 0);
    for (int i = 0; i < 20; i++)
        check_done(&jobs[i], 0);
    CHECK_EQ(os_close(sockets[0]), 0);
    CHECK_EQ(os_close(sockets[1]), 0);
    finish_both();
    if (pid == 0)
        exit(0);
}

/* At any moment of the threads' work: each job is called back once in each process. */
TEST(pool_fork_under_load) {
    NEED_THREADS_AFTER_FORK();
    open_both(3);
    start_threads(3);
    for (int round = 0; round < (test_slow() ? 20 : 100); round++) {
        for (int i = 0; i < 300; i++)
            queue(&jobs[i]);
        busy_ns((uint64_t)round * 1000);
        pid_t pid = fork_with_loop();
        run_all();
        for (int i = 0; i < 300; i++) {
            CHECK_EQ(jobs[i].called, 1);
            if (pid == 0)
                CHECK(jobs[i].status == 0 || jobs[i].status == EVL_ECANCELED);
            if (pid != 0 || jobs[i].status == 0)
                check_done(&jobs[i], 0);
        }
        if (pid == 0) {
            finish_both();
            exit(0);
        }
        expect_exit_0(pid);
    }
    finish_both();
}

static void fork_and_exit(evl_work_t *req) {
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0)
        _exit(0);
    expect_exit_0(pid);
    work(req);
}

/* As is done to start a program. */
TEST(pool_fork_in_a_job) {
    open_both(3);
    for (int i = 0; i < 30; i++)
        CHECK_EQ(queue_on(&loop, &jobs[i], fork_and_exit), 0);
    run_all();
    for (int i = 0; i < 30; i++)
        check_done(&jobs[i], 0);
    finish_both();
}

#endif /* !_WIN32 */

#endif /* !EVLOOP_NO_THREADS */

/* ---- Random bytes ---------------------------------------------------------------------------- */

static evl_random_t random_req;
static int random_called, random_status;
static unsigned char random_bytes[64];

static void after_random(evl_random_t *req, int status, void *buf, size_t buflen) {
    CHECK_PTR(req, &random_req);
    CHECK_PTR(buf, random_bytes);
    CHECK_EQ(buflen, req->buflen);
    CHECK_EQ(req->status, status);
    random_called++;
    random_status = status;
    trace("r");
}

static void start_random(size_t size) {
    random_called = 0;
    memset(&random_req, 0xa5, sizeof(random_req));
    memset(random_bytes, 0, sizeof(random_bytes));
    CHECK_EQ(evl_random(&loop, &random_req, random_bytes, size, 0, after_random), 0);
    CHECK_EQ(random_called, 0);
    CHECK_EQ(random_req.type, EVL_RANDOM);
    CHECK_PTR(random_req.loop, &loop);
    CHECK_EQ(evl_loop_alive(&loop), 1);
}

static int differ(const unsigned char *bytes) {
    static const unsigned char zeros[64] = {0};
    return memcmp(bytes, zeros, sizeof(zeros)) != 0;
}

TEST(pool_random_at_once) {
    unsigned char a[64], b[64];
    memset(a, 0, sizeof(a));
    memset(b, 0, sizeof(b));
    CHECK_EQ(evl_random(NULL, NULL, a, sizeof(a), 0, NULL), 0);
    CHECK_EQ(evl_random(NULL, NULL, b, sizeof(b), 0, NULL), 0);
    CHECK(differ(a));
    CHECK(memcmp(a, b, sizeof(a)) != 0);
    memset(a, 7, sizeof(a));
    CHECK_EQ(evl_random(NULL, NULL, a, 0, 0, NULL), 0);
    CHECK_EQ(evl_random(NULL, NULL, NULL, 0, 0, NULL), 0);
    for (size_t i = 0; i < sizeof(a); i++)
        CHECK_EQ(a[i], 7);
    CHECK_EQ(evl_random(NULL, NULL, a, 10, 0, NULL), 0); /* and no byte more */
    for (size_t i = 10; i < sizeof(a); i++)
        CHECK_EQ(a[i], 7);
}

TEST(pool_random_by_callback) {
    unsigned char before[64];
    open_loop();
    start_random(64);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK_EQ(random_status, 0);
    CHECK(differ(random_bytes));
    memcpy(before, random_bytes, sizeof(before));
    start_random(64);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK(memcmp(before, random_bytes, sizeof(before)) != 0);
    start_random(0);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK_EQ(random_status, 0);
    CHECK(!differ(random_bytes));
    CHECK_EQ(evl_cancel((evl_req_t *)&random_req), EVL_EBUSY);
    finish_all();
}

static void refused_random(evl_random_t *req, int status, void *buf, size_t buflen) {
    (void)req;
    (void)status;
    (void)buf;
    (void)buflen;
    test_fail(__FILE__, __LINE__, "this callback of random bytes must not run");
}

TEST(pool_random_refuses) {
    unsigned char *byte = random_bytes;
    open_loop();
    CHECK_EQ(evl_random(&loop, &random_req, byte, 1, 1, refused_random), EVL_EINVAL);
    CHECK_EQ(evl_random(NULL, NULL, byte, 1, 1, NULL), EVL_EINVAL);
    CHECK_EQ(evl_random(NULL, NULL, byte, 1, (unsigned)-1, NULL), EVL_EINVAL);
    CHECK_EQ(evl_random(&loop, &random_req, byte, 0x80000000u, 0, refused_random), EVL_E2BIG);
    CHECK_EQ(evl_random(NULL, NULL, byte, 0x80000000u, 0, NULL), EVL_E2BIG);
    CHECK_EQ(evl_random(NULL, NULL, byte, (size_t)-1, 0, NULL), EVL_E2BIG);
    CHECK_EQ(evl_random(NULL, &random_req, byte, 1, 0, refused_random), EVL_EINVAL);
    CHECK_EQ(evl_random(&loop, NULL, byte, 1, 0, refused_random), EVL_EINVAL);
    CHECK_EQ(random_bytes[0], 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    run_all();
    finish_all();
}

/* Each byte of a large buffer gets a bit in one of several fills. */
TEST(pool_random_fills_every_byte) {
    static unsigned char fill[1 << 20], all[1 << 20];
    for (int round = 0; round < 8; round++) {
        CHECK_EQ(evl_random(NULL, NULL, fill, sizeof(fill), 0, NULL), 0);
        for (size_t i = 0; i < sizeof(fill); i++)
            all[i] = (unsigned char)(all[i] | fill[i]);
    }
    for (size_t i = 0; i < sizeof(all); i++)
        CHECK_NE(all[i], 0);
}

/* More than Linux gives at a time. */
TEST(pool_random_fills_33_MiB) {
    size_t size = (size_t)33 << 20;
    unsigned char *bytes = (unsigned char *)calloc(size, 1);
    CHECK(bytes != NULL);
    CHECK_EQ(evl_random(NULL, NULL, bytes, size, 0, NULL), 0);
    for (size_t i = 0; i < size; i += 4096)
        CHECK(differ(bytes + i));
    CHECK(differ(bytes + size - 64));
    free(bytes);
}

#ifdef EVLOOP_NO_THREADS

TEST(pool_random_cancelled) {
    open_loop();
    start_random(64);
    CHECK_EQ(evl_cancel((evl_req_t *)&random_req), 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&random_req), EVL_EBUSY);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK_EQ(random_status, EVL_ECANCELED);
    CHECK(!differ(random_bytes));
    finish_all();
}

#else

TEST(pool_random_cancelled) {
    open_both(1);
    occupy(1);
    start_random(64);
    CHECK_EQ(evl_cancel((evl_req_t *)&random_req), 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&random_req), EVL_EBUSY);
    CHECK_EQ(random_called, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
    CHECK_EQ(random_called, 1);
    CHECK_EQ(random_status, EVL_ECANCELED);
    open_gate(1);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK(!differ(random_bytes));
    finish_both();
}

#endif

#if defined(__linux__)

TEST(pool_random_without_the_system_call) {
    open_loop();
    test_fault_set("getrandom", 1, -1, ENOSYS); /* as before Linux 3.17 */
    int fds = test_open_fds();
    CHECK_EQ(evl_random(NULL, NULL, random_bytes, sizeof(random_bytes), 0, NULL), 0);
    CHECK(differ(random_bytes));
    CHECK_EQ(test_open_fds(), fds);
    CHECK_EQ(test_fault_hits("getrandom"), 1);
    start_random(64);
    run_all();
    CHECK_EQ(random_status, 0);
    CHECK(differ(random_bytes));
    CHECK_EQ(test_fault_hits("getrandom"), 2);
    finish_all();
}

TEST(pool_random_is_asked_again_when_interrupted) {
    test_fault_set("getrandom", 1, 3, EINTR);
    CHECK_EQ(evl_random(NULL, NULL, random_bytes, sizeof(random_bytes), 0, NULL), 0);
    CHECK(differ(random_bytes));
    CHECK_EQ(test_fault_hits("getrandom"), 3);
    CHECK_EQ(test_fault_calls("getrandom"), 4);
}

TEST(pool_random_fails) {
    open_loop();
    test_fault_set("getrandom", 1, 2, EIO);
    CHECK_EQ(evl_random(NULL, NULL, random_bytes, sizeof(random_bytes), 0, NULL), EVL_EIO);
    start_random(64);
    run_all();
    CHECK_EQ(random_called, 1);
    CHECK_EQ(random_status, EVL_EIO);
    CHECK_EQ(random_req.status, EVL_EIO);
    start_random(64);
    run_all();
    CHECK_EQ(random_status, 0);
    finish_all();
}

#endif
