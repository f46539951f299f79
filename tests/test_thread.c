/* Threads, locks and their kin. */
#include "trace.h"

#ifndef EVLOOP_NO_THREADS

#define MS UINT64_C(1000000)

static evl_mutex_t mutex;
static evl_cond_t cond;
static evl_rwlock_t rwlock;
static evl_sem_t semaphore;
static evl_barrier_t barrier;
static int counter; /* plain: the thread sanitizer sees who touches it without the lock */
static volatile int flag;

/* What init finds in the memory is of no consequence. */
#define POISON(object) memset(object, 0xa5, sizeof(*(object)))

static void spawn(evl_thread_t *thread, evl_thread_cb entry, void *arg) {
    CHECK_EQ(evl_thread_create(thread, entry, arg), 0);
}

static void join(evl_thread_t *thread) {
    CHECK_EQ(evl_thread_join(thread), 0);
}

/* Waits, without a lock, until a thread has set the flag. */
static void await_flag(int value) {
    while (shared_get(&flag) != value)
        os_yield();
}

/* ---- Threads --------------------------------------------------------------------------------- */

static evl_thread_t seen_self;

static void note_self(void *arg) {
    *(int *)arg += 1;
    seen_self = evl_thread_self();
}

TEST(thread_create_and_join) {
    evl_thread_t thread, self = evl_thread_self();
    int value = 41;
    spawn(&thread, note_self, &value);
    join(&thread);
    CHECK_EQ(value, 42);
    evl_thread_t again = evl_thread_self();
    CHECK_NE(evl_thread_equal(&self, &again), 0);
    CHECK_EQ(evl_thread_equal(&self, &seen_self), 0);
}

static void set_flag(void *arg) {
    (void)arg;
    shared_set(&flag, 1);
}

TEST(thread_detach) {
    evl_thread_t thread;
    spawn(&thread, set_flag, NULL);
    CHECK_EQ(evl_thread_detach(&thread), 0);
    await_flag(1);
    CHECK_EQ(test_alloc_live(), 0); /* nothing waits for a join that never comes */
}

static void use_stack(void *arg) {
    volatile char bytes[200000];
    size_t size = (size_t)(uintptr_t)arg;
    for (size_t i = 0; i < size; i += 512)
        bytes[i] = (char)i;
    shared_set(&flag, 1 + bytes[0]);
}

TEST(thread_stack_sizes) {
    static const size_t sizes[] = {0, 1, 4096, 100001, 1 << 20, (1 << 20) + 1};
    evl_thread_t thread;
    evl_thread_options_t options;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        shared_set(&flag, 0);
        options.flags = EVL_THREAD_HAS_STACK_SIZE;
        options.stack_size = sizes[i];
        CHECK_EQ(evl_thread_create_ex(&thread, &options, set_flag, NULL), 0);
        join(&thread);
        CHECK_EQ(shared_get(&flag), 1);
    }
    options.flags = EVL_THREAD_HAS_STACK_SIZE;
    options.stack_size = 1 << 20;
    CHECK_EQ(evl_thread_create_ex(&thread, &options, use_stack, (void *)(uintptr_t)200000), 0);
    join(&thread);
    options.flags = EVL_THREAD_NO_FLAGS; /* the size is not looked at; there is plenty */
    options.stack_size = 1;
    CHECK_EQ(evl_thread_create_ex(&thread, &options, use_stack, (void *)(uintptr_t)200000), 0);
    join(&thread);
}

TEST(thread_create_reports_errors_and_leaves_nothing) {
    evl_thread_t thread;
    evl_thread_options_t options;
    options.flags = EVL_THREAD_HAS_STACK_SIZE;
    options.stack_size = (size_t)-1 - (1 << 20); /* more than there is */
    CHECK_LT(evl_thread_create_ex(&thread, &options, set_flag, NULL), 0);
    CHECK_EQ(test_alloc_live(), 0);
    options.stack_size = 1 << 20;
    test_alloc_fail(1, 1);
    int result = evl_thread_create_ex(&thread, &options, set_flag, NULL);
    test_alloc_fail(0, 0);
    CHECK(result == 0 || result == EVL_ENOMEM);
    if (result == 0)
        join(&thread);
    CHECK_EQ(test_alloc_live(), 0);
}

/* ---- Mutexes --------------------------------------------------------------------------------- */

enum { WORKERS = 4, ROUNDS = 20000 };

static void add_locked(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        evl_mutex_lock(&mutex);
        counter++;
        evl_mutex_unlock(&mutex);
    }
}

TEST(thread_mutex_excludes) {
    evl_thread_t threads[WORKERS];
    POISON(&mutex);
    CHECK_EQ(evl_mutex_init(&mutex), 0);
    for (int i = 0; i < WORKERS; i++)
        spawn(&threads[i], add_locked, NULL);
    for (int i = 0; i < WORKERS; i++)
        join(&threads[i]);
    CHECK_EQ(counter, WORKERS * ROUNDS);
    evl_mutex_destroy(&mutex);
}

static void try_mutex(void *arg) {
    *(int *)arg = evl_mutex_trylock(&mutex);
    if (*(int *)arg == 0)
        evl_mutex_unlock(&mutex);
}

static int try_in_thread(void) {
    evl_thread_t thread;
    int result = 1;
    spawn(&thread, try_mutex, &result);
    join(&thread);
    return result;
}

TEST(thread_mutex_trylock) {
    POISON(&mutex);
    CHECK_EQ(evl_mutex_init(&mutex), 0);
    CHECK_EQ(evl_mutex_trylock(&mutex), 0);
    CHECK_EQ(try_in_thread(), EVL_EBUSY);
    CHECK_EQ(evl_mutex_trylock(&mutex), EVL_EBUSY); /* not recursive */
    evl_mutex_unlock(&mutex);
    CHECK_EQ(try_in_thread(), 0);
    evl_mutex_destroy(&mutex);
}

TEST(thread_mutex_recursive) {
    POISON(&mutex);
    CHECK_EQ(evl_mutex_init_recursive(&mutex), 0);
    evl_mutex_lock(&mutex);
    evl_mutex_lock(&mutex);
    CHECK_EQ(evl_mutex_trylock(&mutex), 0);
    CHECK_EQ(try_in_thread(), EVL_EBUSY);
    evl_mutex_unlock(&mutex);
    evl_mutex_unlock(&mutex);
    CHECK_EQ(try_in_thread(), EVL_EBUSY);
    evl_mutex_unlock(&mutex);
    CHECK_EQ(try_in_thread(), 0);
    evl_mutex_destroy(&mutex);
}

/* ---- Read-write locks ------------------------------------------------------------------------ */

static void try_rwlock(void *arg) {
    int *results = (int *)arg;
    results[0] = evl_rwlock_tryrdlock(&rwlock);
    if (results[0] == 0)
        evl_rwlock_rdunlock(&rwlock);
    results[1] = evl_rwlock_trywrlock(&rwlock);
    if (results[1] == 0)
        evl_rwlock_wrunlock(&rwlock);
}

static void check_rwlock(int read, int write) {
    evl_thread_t thread;
    int results[2] = {1, 1};
    spawn(&thread, try_rwlock, results);
    join(&thread);
    CHECK_EQ(results[0], read);
    CHECK_EQ(results[1], write);
}

TEST(thread_rwlock_states) {
    POISON(&rwlock);
    CHECK_EQ(evl_rwlock_init(&rwlock), 0);
    check_rwlock(0, 0);
    evl_rwlock_rdlock(&rwlock);
    check_rwlock(0, EVL_EBUSY);
    CHECK_EQ(evl_rwlock_tryrdlock(&rwlock), 0); /* a second reader */
    evl_rwlock_rdunlock(&rwlock);
    check_rwlock(0, EVL_EBUSY);
    evl_rwlock_rdunlock(&rwlock);
    check_rwlock(0, 0);
    evl_rwlock_wrlock(&rwlock);
    check_rwlock(EVL_EBUSY, EVL_EBUSY);
    evl_rwlock_wrunlock(&rwlock);
    CHECK_EQ(evl_rwlock_trywrlock(&rwlock), 0);
    check_rwlock(EVL_EBUSY, EVL_EBUSY);
    evl_rwlock_wrunlock(&rwlock);
    check_rwlock(0, 0);
    evl_rwlock_destroy(&rwlock);
}

static int pair[2]; /* plain: writers change both, readers must see them equal */

static void read_or_write(void *arg) {
    int writer = arg != NULL;
    for (int i = 0; i < ROUNDS / 4; i++) {
        if (writer || i % 64 == 0) {
            evl_rwlock_wrlock(&rwlock);
            pair[0]++;
            pair[1]++;
            evl_rwlock_wrunlock(&rwlock);
        } else {
            evl_rwlock_rdlock(&rwlock);
            CHECK_EQ(pair[0], pair[1]);
            evl_rwlock_rdunlock(&rwlock);
        }
    }
}

TEST(thread_rwlock_excludes) {
    evl_thread_t threads[WORKERS];
    POISON(&rwlock);
    CHECK_EQ(evl_rwlock_init(&rwlock), 0);
    for (int i = 0; i < WORKERS; i++)
        spawn(&threads[i], read_or_write, i == 0 ? (void *)&pair : NULL);
    for (int i = 0; i < WORKERS; i++)
        join(&threads[i]);
    CHECK_EQ(pair[0], pair[1]);
    CHECK_EQ(pair[0], ROUNDS / 4 + (WORKERS - 1) * ((ROUNDS / 4 + 63) / 64));
    evl_rwlock_destroy(&rwlock);
}

static void read_with_main(void *arg) {
    (void)arg;
    evl_rwlock_rdlock(&rwlock);
    shared_set(&flag, 1);
    await_flag(2); /* main is inside as well, at the same time */
    evl_rwlock_rdunlock(&rwlock);
}

TEST(thread_rwlock_lets_readers_in_together) {
    evl_thread_t thread;
    POISON(&rwlock);
    CHECK_EQ(evl_rwlock_init(&rwlock), 0);
    spawn(&thread, read_with_main, NULL);
    await_flag(1);
    evl_rwlock_rdlock(&rwlock);
    shared_set(&flag, 2);
    join(&thread);
    evl_rwlock_rdunlock(&rwlock);
    evl_rwlock_destroy(&rwlock);
}

/* ---- Conditions ------------------------------------------------------------------------------ */

static void set_and_signal(void *arg) {
    (void)arg;
    evl_mutex_lock(&mutex);
    counter = 1;
    evl_cond_signal(&cond);
    evl_mutex_unlock(&mutex);
}

static void cond_begin(void) {
    counter = 0;
    POISON(&mutex);
    CHECK_EQ(evl_mutex_init(&mutex), 0);
    POISON(&cond);
    CHECK_EQ(evl_cond_init(&cond), 0);
}

static void cond_end(void) {
    evl_cond_destroy(&cond);
    evl_mutex_destroy(&mutex);
}

TEST(thread_cond_signal) {
    evl_thread_t thread;
    cond_begin();
    evl_mutex_lock(&mutex);
    spawn(&thread, set_and_signal, NULL);
    while (counter == 0)
        evl_cond_wait(&cond, &mutex);
    evl_mutex_unlock(&mutex);
    join(&thread);
    cond_end();
}

static void wait_for_three(void *arg) {
    (void)arg;
    evl_mutex_lock(&mutex);
    counter++;
    while (!shared_get(&flag))
        evl_cond_wait(&cond, &mutex);
    counter--;
    evl_mutex_unlock(&mutex);
}

TEST(thread_cond_broadcast) {
    evl_thread_t threads[3];
    int waiting = 0;
    cond_begin();
    for (int i = 0; i < 3; i++)
        spawn(&threads[i], wait_for_three, NULL);
    while (waiting < 3) {
        evl_mutex_lock(&mutex);
        waiting = counter;
        evl_mutex_unlock(&mutex);
        os_yield();
    }
    evl_mutex_lock(&mutex);
    shared_set(&flag, 1);
    evl_cond_broadcast(&cond);
    evl_mutex_unlock(&mutex);
    for (int i = 0; i < 3; i++)
        join(&threads[i]);
    CHECK_EQ(counter, 0);
    cond_end();
}

TEST(thread_cond_timedwait) {
    evl_thread_t thread;
    int result = 0;
    cond_begin();
    evl_mutex_lock(&mutex);
    uint64_t start = evl_hrtime();
    while (result == 0) /* it may wake without cause */
        result = evl_cond_timedwait(&cond, &mutex, 20 * MS);
    CHECK_EQ(result, EVL_ETIMEDOUT);
    CHECK_GE(evl_hrtime() - start, 20 * MS);
    while ((result = evl_cond_timedwait(&cond, &mutex, 0)) == 0)
        continue;
    CHECK_EQ(result, EVL_ETIMEDOUT);
    CHECK_EQ(evl_mutex_trylock(&mutex), EVL_EBUSY); /* the mutex is ours again */
    /* Signalled in time; the longest wait does not overflow into a short one. */
    spawn(&thread, set_and_signal, NULL);
    while (counter == 0)
        CHECK_EQ(evl_cond_timedwait(&cond, &mutex, UINT64_MAX), 0);
    evl_mutex_unlock(&mutex);
    join(&thread);
    cond_end();
}

static void set_late(void *arg) {
    test_sleep_ms(20);
    set_and_signal(arg);
}

/* However far off the end is: it is not in the past. */
TEST(thread_cond_timedwait_with_huge_times) {
    static const uint64_t times[] = {UINT64_MAX,
                                     UINT64_MAX - 1,
                                     UINT64_MAX / 2,
                                     UINT64_C(1) << 63,
                                     UINT64_C(9223372036) * 1000 * MS,
                                     UINT64_C(2147483648) * 1000 * MS};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        evl_thread_t thread;
        cond_begin();
        evl_mutex_lock(&mutex);
        spawn(&thread, set_late, NULL);
        while (counter == 0)
            CHECK_EQ(evl_cond_timedwait(&cond, &mutex, times[i]), 0);
        evl_mutex_unlock(&mutex);
        join(&thread);
        cond_end();
    }
}

/* ---- Semaphores ------------------------------------------------------------------------------ */

TEST(thread_sem_counts) {
    POISON(&semaphore);
    CHECK_EQ(evl_sem_init(&semaphore, 3), 0);
    evl_sem_wait(&semaphore);
    CHECK_EQ(evl_sem_trywait(&semaphore), 0);
    CHECK_EQ(evl_sem_trywait(&semaphore), 0);
    CHECK_EQ(evl_sem_trywait(&semaphore), EVL_EAGAIN);
    evl_sem_post(&semaphore);
    evl_sem_post(&semaphore);
    CHECK_EQ(evl_sem_trywait(&semaphore), 0);
    evl_sem_wait(&semaphore);
    CHECK_EQ(evl_sem_trywait(&semaphore), EVL_EAGAIN);
    evl_sem_destroy(&semaphore);
    POISON(&semaphore);
    CHECK_EQ(evl_sem_init(&semaphore, 0), 0);
    CHECK_EQ(evl_sem_trywait(&semaphore), EVL_EAGAIN);
    evl_sem_destroy(&semaphore);
}

static evl_sem_t answers;

static void answer(void *arg) {
    int rounds = *(const int *)arg;
    for (int i = 0; i < rounds; i++) {
        evl_sem_wait(&semaphore);
        counter++;
        evl_sem_post(&answers);
    }
}

TEST(thread_sem_hands_over) {
    evl_thread_t thread;
    int rounds = 5000;
    POISON(&semaphore);
    CHECK_EQ(evl_sem_init(&semaphore, 0), 0);
    POISON(&answers);
    CHECK_EQ(evl_sem_init(&answers, 0), 0);
    spawn(&thread, answer, &rounds);
    for (int i = 0; i < rounds; i++) {
        CHECK_EQ(counter, i);
        evl_sem_post(&semaphore);
        evl_sem_wait(&answers);
    }
    join(&thread);
    evl_sem_destroy(&semaphore);
    evl_sem_destroy(&answers);
}

static void take_one(void *arg) {
    (void)arg;
    evl_sem_wait(&semaphore);
}

/* Several posts in a row wake as many waiters. */
TEST(thread_sem_wakes_all_waiters) {
    evl_thread_t threads[4];
    POISON(&semaphore);
    CHECK_EQ(evl_sem_init(&semaphore, 0), 0);
    for (int i = 0; i < 4; i++)
        spawn(&threads[i], take_one, NULL);
    for (int i = 0; i < 4; i++)
        evl_sem_post(&semaphore);
    for (int i = 0; i < 4; i++)
        join(&threads[i]);
    CHECK_EQ(evl_sem_trywait(&semaphore), EVL_EAGAIN);
    evl_sem_destroy(&semaphore);
}

/* ---- Barriers -------------------------------------------------------------------------------- */

static int arrived[64], serials[64]; /* by round; under the mutex */

static void meet(void *arg) {
    int rounds = *(const int *)arg;
    for (int i = 0; i < rounds; i++) {
        evl_mutex_lock(&mutex);
        arrived[i]++;
        evl_mutex_unlock(&mutex);
        int last = evl_barrier_wait(&barrier);
        CHECK_GE(last, 0);
        evl_mutex_lock(&mutex);
        CHECK_EQ(arrived[i], WORKERS); /* nobody passes before all have come */
        serials[i] += last > 0;
        evl_mutex_unlock(&mutex);
    }
}

TEST(thread_barrier_holds_until_all_have_come) {
    evl_thread_t threads[WORKERS];
    int rounds = 64;
    POISON(&mutex);
    CHECK_EQ(evl_mutex_init(&mutex), 0);
    POISON(&barrier);
    CHECK_EQ(evl_barrier_init(&barrier, WORKERS), 0);
    for (int i = 0; i < WORKERS; i++)
        spawn(&threads[i], meet, &rounds);
    for (int i = 0; i < WORKERS; i++)
        join(&threads[i]);
    for (int i = 0; i < rounds; i++)
        CHECK_EQ(serials[i], 1); /* one of them is told so */
    evl_barrier_destroy(&barrier);
    evl_mutex_destroy(&mutex);
}

TEST(thread_barrier_counts) {
    POISON(&barrier);
    CHECK_EQ(evl_barrier_init(&barrier, 0), EVL_EINVAL);
    POISON(&barrier);
    CHECK_EQ(evl_barrier_init(&barrier, 1), 0);
    for (int i = 0; i < 3; i++)
        CHECK_GT(evl_barrier_wait(&barrier), 0);
    evl_barrier_destroy(&barrier);
}

static void meet_once(void *arg) {
    evl_barrier_t *shared = (evl_barrier_t *)arg;
    if (evl_barrier_wait(shared) > 0) {
        evl_barrier_destroy(shared); /* the one that is told may do so at once, as in libuv */
        free(shared);
    }
}

TEST(thread_barrier_destroyed_by_the_last) {
    int rounds = test_slow() ? 100 : 1000;
    for (int i = 0; i < rounds; i++) {
        evl_thread_t thread;
        evl_barrier_t *shared = (evl_barrier_t *)malloc(sizeof(*shared));
        CHECK(shared != NULL);
        POISON(shared);
        CHECK_EQ(evl_barrier_init(shared, 2), 0);
        spawn(&thread, meet_once, shared);
        meet_once(shared);
        join(&thread);
    }
}

/* ---- Once and keys --------------------------------------------------------------------------- */

static evl_once_t once_guard = EVL_ONCE_INIT;
static int once_calls;

static void count_once(void) {
    test_sleep_ms(2); /* the others have to wait for it */
    once_calls++;
}

static void call_once(void *arg) {
    (void)arg;
    evl_once(&once_guard, count_once);
    CHECK_EQ(once_calls, 1); /* it has returned by now, whoever made it */
}

TEST(thread_once) {
    evl_thread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        spawn(&threads[i], call_once, NULL);
    for (int i = 0; i < WORKERS; i++)
        join(&threads[i]);
    call_once(NULL);
    CHECK_EQ(once_calls, 1);
}

static evl_key_t key;

static void use_key(void *arg) {
    CHECK_PTR(evl_key_get(&key), NULL); /* each thread begins without a value */
    evl_key_set(&key, arg);
    os_yield();
    CHECK_PTR(evl_key_get(&key), arg);
}

TEST(thread_keys) {
    evl_thread_t threads[WORKERS];
    int values[WORKERS];
    CHECK_EQ(evl_key_create(&key), 0);
    CHECK_PTR(evl_key_get(&key), NULL);
    evl_key_set(&key, &key);
    for (int i = 0; i < WORKERS; i++)
        spawn(&threads[i], use_key, &values[i]);
    for (int i = 0; i < WORKERS; i++)
        join(&threads[i]);
    CHECK_PTR(evl_key_get(&key), &key);
    evl_key_set(&key, NULL);
    CHECK_PTR(evl_key_get(&key), NULL);
    evl_key_delete(&key);
}

/* ---- With loops ------------------------------------------------------------------------------ */

static void count_task(evl_loop_t *l, void *arg) {
    (void)l;
    ++*(int *)arg;
}

static void count_timer(evl_timer_t *timer) {
    ++*(int *)timer->data;
}

static void run_a_loop(void *arg) {
    evl_loop_t own;
    evl_timer_t timer;
    int *ticks = (int *)arg;
    CHECK_EQ(evl_loop_init(&own), 0);
    CHECK_EQ(evl_timer_init(&own, &timer), 0);
    for (int i = 0; i < 200; i++) {
        timer.data = ticks;
        CHECK_EQ(evl_timer_start_ns(&timer, count_timer, 1000, 0), 0);
        CHECK_EQ(evl_set_immediate(&own, count_task, ticks, NULL), 0);
        CHECK_EQ(evl_next_tick(&own, count_task, ticks), 0);
        CHECK_EQ(evl_set_timeout(&own, 0, count_task, ticks, NULL), 0);
        CHECK_EQ(evl_run(&own, EVL_RUN_DEFAULT), 0);
    }
    CHECK_EQ(evl_loop_destroy(&own, 1000), 0);
}

/* Two loops in two threads share nothing. */
TEST(thread_each_with_its_loop) {
    evl_thread_t threads[WORKERS];
    int ticks[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        ticks[i] = 0;
        spawn(&threads[i], run_a_loop, &ticks[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        join(&threads[i]);
        CHECK_EQ(ticks[i], 800);
    }
}

#endif
