/* The work whose instructions `make bench-check` counts, under callgrind: see check.sh.
 *
 * What is counted stands in functions named measured_…, but for what these call in functions named
 * unmeasured_…, which play the world outside. Each case calls one measured function once and then prints
 * a line: its name, a tab, and by how many operations the count is to be divided. Nothing here depends
 * on time: descriptors are ready before the loop asks for them, timers are due and jobs are done before
 * it looks. */
#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Counting begins where a measured function is entered and ends where it is left, and an unmeasured one
 * turns that round: it may only be called within a measured one. */
#define MEASURED   __attribute__((noinline)) static
#define UNMEASURED __attribute__((noinline)) static

enum { MOST_TIMERS = 100000, MOST_ASYNCS = 1000, MOST_CONNECTIONS = 50, MOST_JOBS = 10000 };

static evl_loop_t loop;

static void check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "check: %s failed\n", what);
    exit(1);
}

static void counted(const char *name, unsigned operations) {
    printf("%s\t%u\n", name, operations);
}

/* The last call of a measured function: callgrind writes down what it has counted, and begins anew. */
__attribute__((noinline)) static void case_ends(void) {
    __asm__ volatile("" ::: "memory");
}

static uint32_t seed;

static uint32_t next_random(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void pause_ms(long ms) {
    struct timespec time = {0, 0};
    time.tv_nsec = ms * 1000000;
    nanosleep(&time, NULL);
}

static void loop_open(void) {
    check(evl_loop_init(&loop) == 0, "evl_loop_init");
    seed = 1;
}

static void loop_close(void) {
    evl_run(&loop, EVL_RUN_DEFAULT);
    check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

/* ---- An iteration that finds nothing to do ---- */

static void on_quiet(evl_poll_t *poll, int status, int events) {
    (void)poll;
    (void)events;
    check(status < 0, "staying quiet");
}

MEASURED void measured_iterations(unsigned count) {
    while (count-- > 0)
        evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

static void empty_iterations(unsigned count) {
    evl_poll_t poll;
    int quiet[2];
    loop_open();
    check(pipe(quiet) == 0, "pipe");
    check(evl_poll_init(&loop, &poll, quiet[0]) == 0, "evl_poll_init");
    check(evl_poll_start(&poll, EVL_READABLE, on_quiet) == 0, "evl_poll_start");
    evl_run(&loop, EVL_RUN_NOWAIT);
    measured_iterations(count);
    counted("iteration: empty", count);
    evl_close((evl_handle_t *)&poll, NULL);
    loop_close();
    close(quiet[0]);
    close(quiet[1]);
}

/* ---- Timers ---- */

static evl_timer_t timers[MOST_TIMERS];
static uint64_t delays[MOST_TIMERS]; /* 1 to 100 ms */
static unsigned expired;

static void on_timer(evl_timer_t *timer) {
    (void)timer;
    expired++;
}

static void start_timers(unsigned count, uint64_t after_ms) {
    for (unsigned i = 0; i < count; i++)
        evl_timer_start(&timers[i], on_timer, after_ms + delays[i], 0);
}

MEASURED void measured_timers_insert(unsigned count) {
    start_timers(count, 0);
    case_ends();
}

MEASURED void measured_timers_restart(unsigned count) {
    start_timers(count, 100);
    case_ends();
}

MEASURED void measured_timers_stop(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        evl_timer_stop(&timers[i]);
    case_ends();
}

MEASURED void measured_timers_expire(void) {
    evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

static void wait_until_due(uint64_t after_ms) {
    uint64_t end = evl_hrtime() + (after_ms + 2) * 1000000;
    while (evl_hrtime() < end)
        pause_ms(1);
}

static void timers_of(unsigned count, const char *names[]) {
    loop_open();
    for (unsigned i = 0; i < count; i++) {
        evl_timer_init(&loop, &timers[i]);
        delays[i] = 1 + next_random() % 100;
    }
    start_timers(count, 0); /* the heap grows */
    measured_timers_stop(count);
    counted(names[0], count);
    measured_timers_insert(count);
    counted(names[1], count);
    wait_until_due(100);
    expired = 0;
    measured_timers_expire();
    counted(names[2], count);
    check(expired == count, "expiring");
    start_timers(count, 0);
    measured_timers_restart(count);
    counted(names[3], count);
    wait_until_due(200);
    measured_timers_expire();
    counted(names[4], count);
    check(expired == 2 * count, "expiring after a restart");
    for (unsigned i = 0; i < count; i++)
        evl_close((evl_handle_t *)&timers[i], NULL);
    loop_close();
}

/* ---- Tasks ---- */

static unsigned tasks_run;

static void on_task(evl_loop_t *of, void *arg) {
    (void)of;
    (void)arg;
    tasks_run++;
}

MEASURED void measured_ticks(unsigned count) {
    while (count-- > 0)
        evl_next_tick(&loop, on_task, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

MEASURED void measured_microtasks(unsigned count) {
    while (count-- > 0)
        evl_queue_microtask(&loop, on_task, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

MEASURED void measured_immediates(unsigned count) {
    while (count-- > 0)
        evl_set_immediate(&loop, on_task, NULL, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

/* Each twice: the first time the queue grows. */
static void tasks(unsigned count) {
    loop_open();
    for (unsigned i = 0; i < count; i++)
        evl_next_tick(&loop, on_task, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    measured_ticks(count);
    counted("tasks: tick", count);
    for (unsigned i = 0; i < count; i++)
        evl_queue_microtask(&loop, on_task, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    measured_microtasks(count);
    counted("tasks: microtask", count);
    for (unsigned i = 0; i < count; i++)
        evl_set_immediate(&loop, on_task, NULL, NULL);
    evl_run(&loop, EVL_RUN_NOWAIT);
    measured_immediates(count);
    counted("tasks: immediate", count);
    check(tasks_run == 6 * count, "running tasks");
    loop_close();
}

/* ---- Async ---- */

static evl_async_t asyncs[MOST_ASYNCS];
static unsigned to_send;

/* The callback sends the next one, until the loop has had enough. */
static void on_async_again(evl_async_t *async) {
    if (to_send-- > 0)
        evl_async_send(async);
    else
        evl_stop(&loop);
}

static void on_async(evl_async_t *async) {
    (void)async;
    to_send--;
}

MEASURED void measured_async_one(evl_async_t *async) {
    evl_async_send(async);
    evl_run(&loop, EVL_RUN_DEFAULT);
    case_ends();
}

MEASURED void measured_async_all(unsigned handles, unsigned times) {
    while (times-- > 0) {
        for (unsigned i = 0; i < handles; i++)
            evl_async_send(&asyncs[i]);
        evl_run(&loop, EVL_RUN_NOWAIT);
    }
    case_ends();
}

static void asyncs_open(unsigned handles, evl_async_cb cb) {
    loop_open();
    for (unsigned i = 0; i < handles; i++)
        check(evl_async_init(&loop, &asyncs[i], cb) == 0, "evl_async_init");
    evl_run(&loop, EVL_RUN_NOWAIT);
}

static void asyncs_close(unsigned handles) {
    for (unsigned i = 0; i < handles; i++)
        evl_close((evl_handle_t *)&asyncs[i], NULL);
    loop_close();
}

static void async_one(const char *name, unsigned handles, unsigned count) {
    asyncs_open(handles, on_async_again);
    to_send = count - 1;
    measured_async_one(&asyncs[handles / 2]);
    counted(name, count);
    check(to_send == UINT32_MAX, "receiving asyncs");
    asyncs_close(handles);
}

static void async_all(const char *name, unsigned handles, unsigned times) {
    asyncs_open(handles, on_async);
    to_send = handles * times;
    measured_async_all(handles, times);
    counted(name, handles * times);
    check(to_send == 0, "receiving all asyncs");
    asyncs_close(handles);
}

/* ---- Echo ---- */

enum { REQUEST = 64 };

typedef struct {
    evl_tcp_t tcp;
    evl_write_t write;
    char bytes[REQUEST]; /* a lent buffer has to be given back before the write may be done */
    int client;
} connection_t;

static connection_t connections[MOST_CONNECTIONS];
static unsigned connection_count, answered, rounds_left;
static void (*clients)(void);

static void send_requests(void) {
    char bytes[REQUEST];
    for (unsigned i = 0; i < connection_count; i++) {
        memset(bytes, (int)i, sizeof(bytes));
        check(write(connections[i].client, bytes, sizeof(bytes)) == REQUEST, "sending a request");
    }
}

static void receive_answers(void) {
    char bytes[REQUEST], expected[REQUEST];
    for (unsigned i = 0; i < connection_count; i++) {
        memset(expected, (int)i, sizeof(expected));
        check(read(connections[i].client, bytes, sizeof(bytes)) == REQUEST &&
                  memcmp(bytes, expected, sizeof(bytes)) == 0,
              "receiving an answer");
    }
}

/* What the clients do when each of them has been answered. */
static void next_requests(void) {
    receive_answers();
    if (--rounds_left > 0)
        send_requests();
}

UNMEASURED void unmeasured_clients(void) {
    next_requests();
}

static void on_written(evl_write_t *write, int status) {
    (void)write;
    check(status == 0, "evl_write");
    if (++answered < connection_count)
        return;
    answered = 0;
    clients();
    if (rounds_left == 0)
        evl_stop(&loop);
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    connection_t *connection = (connection_t *)stream;
    evl_buf_t answer;
    check(nread == REQUEST, "reading a request");
    memcpy(connection->bytes, buf->base, (size_t)nread);
    answer = evl_buf_init(connection->bytes, (unsigned)nread);
    check(evl_write(&connection->write, stream, &answer, 1, on_written) == 0, "evl_write");
}

MEASURED void measured_echo(void) {
    evl_run(&loop, EVL_RUN_DEFAULT);
    case_ends();
}

static void connection_open(connection_t *connection) {
    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
    connection->client = fds[1];
    check(evl_tcp_init(&loop, &connection->tcp) == 0, "evl_tcp_init");
    check(evl_tcp_open(&connection->tcp, fds[0]) == 0, "evl_tcp_open");
    check(evl_read_start((evl_stream_t *)&connection->tcp, NULL, on_read) == 0, "evl_read_start");
}

static void echo(const char *name, unsigned count, unsigned rounds) {
    loop_open();
    connection_count = count;
    for (unsigned i = 0; i < count; i++)
        connection_open(&connections[i]);
    rounds_left = 2; /* to warm up */
    clients = next_requests;
    send_requests();
    evl_run(&loop, EVL_RUN_DEFAULT);
    rounds_left = rounds;
    clients = unmeasured_clients;
    send_requests();
    measured_echo();
    counted(name, count * rounds);
    check(rounds_left == 0, "echoing");
    for (unsigned i = 0; i < count; i++) {
        evl_close((evl_handle_t *)&connections[i].tcp, NULL);
        close(connections[i].client);
    }
    loop_close();
}

/* ---- The pool ---- */

static evl_pool_t pool;
static evl_sem_t held;
static evl_work_t works[MOST_JOBS], holder;
static unsigned finished;

static void hold(evl_work_t *work) {
    (void)work;
    evl_sem_wait(&held);
}

static void do_nothing(evl_work_t *work) {
    (void)work;
}

static void on_finished(evl_work_t *work, int status) {
    (void)work;
    check(status == 0, "a job");
    finished++;
}

MEASURED void measured_pool_submit(unsigned batch) {
    for (unsigned i = 0; i < batch; i++)
        evl_queue_work(&loop, &works[i], do_nothing, on_finished);
    case_ends();
}

MEASURED void measured_pool_take(void) {
    evl_run(&loop, EVL_RUN_NOWAIT);
    case_ends();
}

/* Waits until the pool has so many jobs behind it and so many under way. */
static void wait_for_pool(uint64_t completed, unsigned running) {
    evl_pool_stats_t stats;
    do {
        pause_ms(1);
        check(evl_pool_stats(&pool, &stats) == 0, "evl_pool_stats");
    } while (stats.completed < completed || stats.running != running);
}

/* The one worker is held by a job of its own while the batch is submitted, and all is done before the
 * loop looks. */
static void pool_batch(const char *submit, const char *take, unsigned batch) {
    evl_pool_options_t options = {0};
    options.threads = 1;
    loop_open();
    check(evl_pool_init(&pool, &options) == 0, "evl_pool_init");
    check(evl_loop_set_pool(&loop, &pool) == 0, "evl_loop_set_pool");
    check(evl_sem_init(&held, 0) == 0, "evl_sem_init");
    finished = 0;
    check(evl_queue_work(&loop, &holder, hold, on_finished) == 0, "evl_queue_work");
    wait_for_pool(0, 1);
    measured_pool_submit(batch);
    counted(submit, batch);
    evl_sem_post(&held);
    wait_for_pool(batch + 1, 0);
    measured_pool_take();
    counted(take, batch);
    check(finished == batch + 1, "taking all completions at once");
    loop_close();
    evl_pool_close(&pool);
    evl_sem_destroy(&held);
}

int main(void) {
    static const char *few_timers[] = {"timers: stop, 1000 live", "timers: insert, 1000 live",
                                       "timers: expire, 1000 live", "timers: restart, 1000 live",
                                       "timers: expire after a restart, 1000 live"};
    static const char *many_timers[] = {
        "timers: stop, 100000 live", "timers: insert, 100000 live", "timers: expire, 100000 live",
        "timers: restart, 100000 live", "timers: expire after a restart, 100000 live"};
    empty_iterations(1000);
    timers_of(1000, few_timers);
    timers_of(MOST_TIMERS, many_timers);
    tasks(1000);
    async_one("async: one signalled of 1", 1, 1000);
    async_one("async: one signalled of 1000", MOST_ASYNCS, 1000);
    async_all("async: all signalled of 1000", MOST_ASYNCS, 10);
    echo("echo: 1 connection", 1, 1000);
    echo("echo: 50 connections", MOST_CONNECTIONS, 20);
    pool_batch("pool: submit, batch of 64", "pool: take, batch of 64", 64);
    pool_batch("pool: submit, batch of 10000", "pool: take, batch of 10000", MOST_JOBS);
    return 0;
}
