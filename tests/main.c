/* main.c - the library's implementation under test, its allocator and fault hooks, and the runner
 * of the tests.
 *
 *     tests [--list] [--filter TEXT,TEXT] [--backends NAME,NAME] [--shuffle[=SEED]]
 *           [--jobs N] [--repeat N]
 *     tests --run NAME        (one test, in this process: for a debugger)
 *
 * Environment: TEST_TIMEOUT (seconds per test, 10), TEST_WRAPPER (a command that each test's
 * process is run under), TEST_SLOW (1: the tests allow for a slow machine). The runner makes no use
 * of the loop. */
#include <stddef.h>

void *test_malloc(size_t size);
void *test_calloc(size_t count, size_t size);
void *test_realloc(void *block, size_t size);
void test_free(void *block);
int test_fault(const char *name);
size_t test_short(const char *name, size_t count);

#define EVLOOP_MALLOC(size)         test_malloc(size)
#define EVLOOP_CALLOC(count, size)  test_calloc(count, size)
#define EVLOOP_REALLOC(block, size) test_realloc(block, size)
#define EVLOOP_FREE(block)          test_free(block)
#define EVLOOP_FAULT(name)          test_fault(name)
#define EVLOOP_SHORT(name, count)   test_short(name, count)
#define EVLOOP_IMPLEMENTATION
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/types.h>
#include <time.h>
#if defined(_WIN32)
#include <winsock2.h>
#include <windows.h>
#include <io.h>
#else
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#if !defined(EVLOOP_NO_DNS)

int test_idna(const char *name, char ascii[256]) {
    return evli_idna(name, ascii);
}

#endif

/* ---- The list of tests ----------------------------------------------------------------------- */

typedef struct {
    const char *area;
    const char *name;
    void (*run)(void);
} test_case_t;

#define X(area, name) void test_case_##name(void);
#include "tests.inc"
#undef X

static const test_case_t test_cases[] = {
#define X(area, name) {#area, #name, test_case_##name},
#include "tests.inc"
#undef X
    {NULL, NULL, NULL}};

static size_t test_case_count(void) {
    return sizeof(test_cases) / sizeof(test_cases[0]) - 1;
}

/* ---- The system, for one test ---------------------------------------------------------------- */

#if !defined(_WIN32)

/* A lock that survives fork and signal handlers. */
typedef sigset_t test_saved_t;

static pthread_mutex_t test_mutex = PTHREAD_MUTEX_INITIALIZER;

static void test_lock(test_saved_t *saved) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, saved);
    pthread_mutex_lock(&test_mutex);
}

static void test_unlock(const test_saved_t *saved) {
    pthread_mutex_unlock(&test_mutex);
    pthread_sigmask(SIG_SETMASK, saved, NULL);
}

static void test_before_fork(void) {
    pthread_mutex_lock(&test_mutex);
}

static void test_after_fork(void) {
    pthread_mutex_unlock(&test_mutex);
}

static void test_init_system(void) {
    pthread_atfork(test_before_fork, test_after_fork, test_after_fork);
}

/* Ends the process as it is: other threads may be running, and a leak report would bury the failure. */
static void test_end(int status) {
    _exit(status);
}

/* What the library's system calls put where `err` is what a test asks for. */
static int test_system_error(int err) {
    return err;
}

uint64_t test_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void test_sleep_ms(unsigned ms) {
    struct timespec rest;
    rest.tv_sec = (time_t)(ms / 1000);
    rest.tv_nsec = (long)(ms % 1000) * 1000000;
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        continue;
}

#if defined(EVLOOP_USE_KQUEUE)

/* libkqueue opens descriptors of its own, local sockets among them, and closes them when it comes to
 * it: on it only internet sockets tell of leaks. */
static int is_counted(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    if (strcmp(test_backend(), "kqueue") != 0)
        return fcntl(fd, F_GETFD) != -1;
    memset(&name, 0, sizeof(name));
    return getsockname(fd, (struct sockaddr *)&name, &length) == 0 && name.ss_family != AF_UNIX;
}

#else

static int is_counted(int fd) {
    return fcntl(fd, F_GETFD) != -1;
}

#endif

int test_open_fds(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += is_counted(fd);
    return count;
}

#else

typedef int test_saved_t;

static SRWLOCK test_mutex = SRWLOCK_INIT;

static void test_lock(test_saved_t *saved) {
    *saved = 0;
    AcquireSRWLockExclusive(&test_mutex);
}

static void test_unlock(const test_saved_t *saved) {
    (void)saved;
    ReleaseSRWLockExclusive(&test_mutex);
}

/* No dialog and no debugger: the exception's code becomes the exit status. */
static LONG WINAPI test_on_exception(EXCEPTION_POINTERS *info) {
    TerminateProcess(GetCurrentProcess(), info->ExceptionRecord->ExceptionCode);
    return EXCEPTION_EXECUTE_HANDLER;
}

static void test_init_system(void) {
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data); /* for what a test does without the library */
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
    SetUnhandledExceptionFilter(test_on_exception);
    _setmode(_fileno(stdout), _O_BINARY);
    _setmode(_fileno(stderr), _O_BINARY);
}

static void test_end(int status) {
    TerminateProcess(GetCurrentProcess(), (UINT)status);
}

/* No signal interrupts a call; but one may fail for the moment, and is to be made again as well. */
static int test_system_error(int err) {
    static const int pairs[][2] = {{EACCES, WSAEACCES},
                                   {EADDRINUSE, WSAEADDRINUSE},
                                   {EADDRNOTAVAIL, WSAEADDRNOTAVAIL},
                                   {EAGAIN, WSAEWOULDBLOCK},
                                   {EBADF, WSAEBADF},
                                   {ECONNABORTED, WSAECONNABORTED},
                                   {ECONNREFUSED, WSAECONNREFUSED},
                                   {ECONNRESET, WSAECONNRESET},
                                   {EINTR, WSAEWOULDBLOCK},
                                   {EINVAL, WSAEINVAL},
                                   {EMFILE, WSAEMFILE},
                                   {ENETDOWN, WSAENETDOWN},
                                   {ENETUNREACH, WSAENETUNREACH},
                                   {ENFILE, ERROR_TOO_MANY_OPEN_FILES},
                                   {ENOBUFS, WSAENOBUFS},
                                   {ENOMEM, ERROR_NOT_ENOUGH_MEMORY},
                                   {ENOSPC, WSAENOBUFS},
                                   {ENOTCONN, WSAENOTCONN},
                                   {EPERM, ERROR_ACCESS_DENIED},
                                   {EPIPE, WSAESHUTDOWN},
                                   {EPROTO, WSAEHOSTUNREACH}, /* as a connection that has failed */
                                   {ETIMEDOUT, WSAETIMEDOUT}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (pairs[i][0] == err)
            return pairs[i][1];
    if (err != 0)
        test_fail(__FILE__, __LINE__, "no error of Windows is known for this fault");
    return 0;
}

uint64_t test_ns(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceFrequency(&per_second);
    QueryPerformanceCounter(&ticks);
    uint64_t whole = (uint64_t)(ticks.QuadPart / per_second.QuadPart);
    uint64_t rest = (uint64_t)(ticks.QuadPart % per_second.QuadPart);
    return whole * 1000000000u + rest * 1000000000u / (uint64_t)per_second.QuadPart;
}

void test_sleep_ms(unsigned ms) {
    Sleep(ms);
}

/* Sockets, and descriptors of the C library. Other handles come and go with the system's own threads
 * and libraries. */
int test_open_fds(void) {
    int count = 0;
    for (uintptr_t handle = 4; handle < 4 * 1024; handle += 4) {
        int type;
        int length = sizeof(type);
        if (getsockopt((SOCKET)handle, SOL_SOCKET, SO_TYPE, (char *)&type, &length) == 0)
            count++;
    }
    for (int fd = 0; fd < 64; fd++)
        if (_get_osfhandle(fd) != -1)
            count++;
    return count;
}

#endif

uint64_t test_ms(void) {
    return test_ns() / 1000000u;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* In front of each block; 16 bytes keep what follows aligned for everything. */
typedef union {
    struct {
        size_t size;
        size_t magic;
    } block;
    char align[16];
} test_head_t;

#define TEST_MAGIC       ((size_t)0x5eed1e55u)
#define TEST_MAGIC_FREED ((size_t)0xdeadbeefu)

static size_t test_calls;
static size_t test_bytes;
static size_t test_peak;
static long test_live;
static long test_fail_after; /* allocations until the first failure; 0: off */
static long test_fail_times; /* failures left; -1: no end */
static int test_leak_allowed;
static int test_fill = 1; /* not under valgrind, which itself sees the use of unset memory */

/* Whether this allocation is to fail; call it locked. */
static int test_alloc_fails(void) {
    if (test_fail_after == 0)
        return 0;
    if (test_fail_after > 1) {
        test_fail_after--;
        return 0;
    }
    if (test_fail_times == 0) {
        test_fail_after = 0;
        return 0;
    }
    if (test_fail_times > 0)
        test_fail_times--;
    return 1;
}

static void test_account(size_t added, size_t removed, long blocks) {
    test_bytes = test_bytes + added - removed;
    test_live += blocks;
    if (test_bytes > test_peak)
        test_peak = test_bytes;
}

static void *test_allocate(size_t size, int fill) {
    test_saved_t saved;
    test_lock(&saved);
    test_calls++;
    test_head_t *head = NULL;
    if (!test_alloc_fails() && size < (size_t)-1 - sizeof(*head))
        head = (test_head_t *)malloc(sizeof(*head) + size);
    if (head != NULL)
        test_account(size, 0, 1);
    test_unlock(&saved);
    if (head == NULL)
        return NULL;
    head->block.size = size;
    head->block.magic = TEST_MAGIC;
    if (fill >= 0)
        memset(head + 1, fill, size);
    return head + 1;
}

/* The head of a block that is about to be freed or resized. */
static test_head_t *test_head(void *block) {
    test_head_t *head = (test_head_t *)block - 1;
    if (head->block.magic != TEST_MAGIC)
        test_fail(__FILE__, __LINE__, "a block is freed twice, or its front was overwritten");
    return head;
}

void *test_malloc(size_t size) {
    return test_allocate(size, test_fill ? 0xcd : -1);
}

void *test_calloc(size_t count, size_t size) {
    if (size != 0 && count > (size_t)-1 / size)
        return NULL;
    return test_allocate(count * size, 0);
}

void *test_realloc(void *block, size_t size) {
    if (block == NULL)
        return test_malloc(size);
    /* Always a new block, so that a pointer kept into the old one shows. */
    size_t old_size = test_head(block)->block.size;
    void *copy = test_malloc(size);
    if (copy == NULL)
        return NULL;
    memcpy(copy, block, old_size < size ? old_size : size);
    test_free(block);
    return copy;
}

void test_free(void *block) {
    if (block == NULL)
        return;
    test_head_t *head = test_head(block);
    size_t size = head->block.size;
    if (test_fill)
        memset(block, 0xdd, size);
    head->block.magic = TEST_MAGIC_FREED;
    test_saved_t saved;
    test_lock(&saved);
    test_account(0, size, -1);
    test_unlock(&saved);
    free(head);
}

size_t test_alloc_calls(void) {
    test_saved_t saved;
    test_lock(&saved);
    size_t value = test_calls;
    test_unlock(&saved);
    return value;
}

long test_alloc_live(void) {
    test_saved_t saved;
    test_lock(&saved);
    long value = test_live;
    test_unlock(&saved);
    return value;
}

size_t test_alloc_bytes(void) {
    test_saved_t saved;
    test_lock(&saved);
    size_t value = test_bytes;
    test_unlock(&saved);
    return value;
}

size_t test_alloc_peak(void) {
    test_saved_t saved;
    test_lock(&saved);
    size_t value = test_peak;
    test_unlock(&saved);
    return value;
}

void test_alloc_fail(long nth, long times) {
    test_saved_t saved;
    test_lock(&saved);
    test_fail_after = nth;
    test_fail_times = times;
    test_unlock(&saved);
}

void test_allow_leak(void) {
    test_leak_allowed = 1;
}

/* ---- Faults ---------------------------------------------------------------------------------- */

typedef struct {
    char name[24]; /* "": free */
    long after;    /* calls until the first failure; 0: none */
    long times;    /* failures left; -1: no end */
    int err;
    size_t max; /* bytes per call; 0: no bound */
    long calls;
    long hits;
} test_fault_t;

static test_fault_t test_faults[16];

/* Whether any name is set. Read without the lock, since it is asked before every system call. */
static volatile int test_faults_set;

#if defined(__GNUC__) && !defined(__TINYC__)
static int test_any_fault(void) {
    return __atomic_load_n(&test_faults_set, __ATOMIC_ACQUIRE);
}

static void test_any_fault_set(int value) {
    __atomic_store_n(&test_faults_set, value, __ATOMIC_RELEASE);
}
#else
static int test_any_fault(void) {
    return test_faults_set;
}

static void test_any_fault_set(int value) {
    test_faults_set = value;
}
#endif

static test_fault_t *test_fault_find(const char *name, int add) {
    test_fault_t *unused = NULL;
    for (size_t i = 0; i < sizeof(test_faults) / sizeof(test_faults[0]); i++) {
        test_fault_t *fault = &test_faults[i];
        if (strcmp(fault->name, name) == 0)
            return fault;
        if (fault->name[0] == '\0' && unused == NULL)
            unused = fault;
    }
    if (!add)
        return NULL;
    if (unused == NULL || strlen(name) >= sizeof(unused->name))
        test_fail(__FILE__, __LINE__, "too many faults at once, or the name is too long");
    memset(unused, 0, sizeof(*unused));
    memcpy(unused->name, name, strlen(name) + 1);
    return unused;
}

void test_fault_set(const char *name, long nth, long times, int err) {
    test_saved_t saved;
    test_lock(&saved);
    test_fault_t *fault = test_fault_find(name, 1);
    fault->after = nth;
    fault->times = times;
    fault->err = test_system_error(err);
    fault->calls = 0;
    fault->hits = 0;
    test_any_fault_set(1);
    test_unlock(&saved);
}

void test_short_set(const char *name, size_t max) {
    test_saved_t saved;
    test_lock(&saved);
    test_fault_find(name, 1)->max = max;
    test_any_fault_set(1);
    test_unlock(&saved);
}

void test_fault_clear(void) {
    test_saved_t saved;
    test_lock(&saved);
    memset(test_faults, 0, sizeof(test_faults));
    test_any_fault_set(0);
    test_unlock(&saved);
}

long test_fault_hits(const char *name) {
    test_saved_t saved;
    test_lock(&saved);
    test_fault_t *fault = test_fault_find(name, 0);
    long hits = fault != NULL ? fault->hits : 0;
    test_unlock(&saved);
    return hits;
}

long test_fault_calls(const char *name) {
    test_saved_t saved;
    test_lock(&saved);
    test_fault_t *fault = test_fault_find(name, 0);
    long calls = fault != NULL ? fault->calls : 0;
    test_unlock(&saved);
    return calls;
}

/* What this call is to fail with, 0 for nothing; call it locked. */
static int test_fault_step(test_fault_t *fault) {
    fault->calls++;
    if (fault->after == 0)
        return 0;
    if (fault->after > 1) {
        fault->after--;
        return 0;
    }
    if (fault->times == 0) {
        fault->after = 0;
        return 0;
    }
    if (fault->times > 0)
        fault->times--;
    fault->hits++;
    return fault->err;
}

int test_fault(const char *name) {
    if (!test_any_fault())
        return 0;
    test_saved_t saved;
    test_lock(&saved);
    test_fault_t *fault = test_fault_find(name, 0);
    int err = fault != NULL ? test_fault_step(fault) : 0;
    test_unlock(&saved);
    return err;
}

size_t test_short(const char *name, size_t count) {
    if (!test_any_fault())
        return count;
    test_saved_t saved;
    test_lock(&saved);
    test_fault_t *fault = test_fault_find(name, 0);
    if (fault != NULL && fault->max != 0 && fault->max < count)
        count = fault->max;
    test_unlock(&saved);
    return count;
}

/* ---- Checks ---------------------------------------------------------------------------------- */

#define TEST_EXIT_FAILED  1
#define TEST_EXIT_SKIPPED 77
#define TEST_SKIP_MARK    "SKIP: "

static void test_quit(int status) {
    fflush(stdout);
    fflush(stderr);
    test_end(status);
}

static void test_quit_failed(const char *file, int line, const char *format, ...) {
    va_list args;
    fflush(stdout);
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    test_quit(TEST_EXIT_FAILED);
}

void test_fail(const char *file, int line, const char *what) {
    test_quit_failed(file, line, "failed: %s", what);
}

/* " (ECANCELED)" behind a value that may be an error code. */
static const char *test_error_name(long long value, char *buffer, size_t size) {
    char name[64];
    buffer[0] = '\0';
    if (value < 0 && value > -5000) {
        evl_err_name_r((int)value, name, sizeof(name));
        snprintf(buffer, size, " (%s)", name);
    }
    return buffer;
}

void test_compare(const char *file, int line, const char *actual_text, int op,
                  const char *expected_text, long long actual, long long expected) {
    static const char *const names[] = {"==", "!=", ">=", "<=", ">", "<"};
    const int holds[] = {actual == expected, actual != expected, actual >= expected,
                         actual <= expected, actual > expected,  actual < expected};
    char actual_name[80];
    char expected_name[80];
    if (holds[op])
        return;
    test_quit_failed(file, line, "failed: %s %s %s: %lld%s against %lld%s", actual_text, names[op],
                     expected_text, actual,
                     test_error_name(actual, actual_name, sizeof(actual_name)), expected,
                     test_error_name(expected, expected_name, sizeof(expected_name)));
}

void test_check_str(const char *file, int line, const char *text, const char *actual,
                    const char *expected) {
    if (actual == NULL || strcmp(actual, expected) != 0)
        test_quit_failed(file, line, "failed: %s is \"%s\", expected \"%s\"", text,
                         actual != NULL ? actual : "(null)", expected);
}

void test_check_mem(const char *file, int line, const char *text, const void *actual,
                    const void *expected, size_t size) {
    const unsigned char *a = (const unsigned char *)actual;
    const unsigned char *b = (const unsigned char *)expected;
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            test_quit_failed(file, line, "failed: %s at byte %lu of %lu: 0x%02x, expected 0x%02x",
                             text, (unsigned long)i, (unsigned long)size, a[i], b[i]);
}

void test_check_ptr(const char *file, int line, const char *text, const void *actual,
                    const void *expected) {
    if (actual != expected)
        test_quit_failed(file, line, "failed: %s is %p, expected %p", text, actual, expected);
}

void test_skip(const char *reason) {
    printf("\n%s%s\n", TEST_SKIP_MARK, reason);
    test_quit(TEST_EXIT_SKIPPED);
}

/* ---- Time and resources ---------------------------------------------------------------------- */

int test_slow(void) {
    const char *slow = getenv("TEST_SLOW");
    return slow != NULL && strcmp(slow, "1") == 0;
}

static int test_wrapped_by(const char *name) {
    const char *wrapper = getenv("TEST_WRAPPER");
    return wrapper != NULL && strstr(wrapper, name) != NULL;
}

int test_valgrind(void) {
    return test_wrapped_by("valgrind");
}

int test_qemu(void) {
    return test_wrapped_by("qemu");
}

static char test_asked[16];

/* A test may change the environment. */
static void test_note_backend(void) {
    const char *backend = getenv("EVLOOP_BACKEND");
    snprintf(test_asked, sizeof(test_asked), "%s", backend != NULL ? backend : "");
}

const char *test_backend(void) {
    return test_asked;
}

/* ---- One test, in a process of its own ------------------------------------------------------- */

static const test_case_t *test_find(const char *name) {
    for (size_t i = 0; i < test_case_count(); i++)
        if (strcmp(test_cases[i].name, name) == 0)
            return &test_cases[i];
    return NULL;
}

static int test_run_here(const char *name) {
    const test_case_t *test = test_find(name);
    if (test == NULL) {
        fprintf(stderr, "there is no test named %s\n", name);
        return 2;
    }
    test_fill = !test_valgrind();
    test_note_backend();
    test_init_system();
    test->run();
    if (test_alloc_live() != 0 && !test_leak_allowed) {
        fflush(stdout);
        fprintf(stderr, "failed: %ld blocks with %lu bytes are still allocated at the end\n",
                test_alloc_live(), (unsigned long)test_alloc_bytes());
        test_quit(TEST_EXIT_FAILED);
    }
    return 0;
}

/* ---- The runner: options --------------------------------------------------------------------- */

#define RUN_MAX_BACKENDS 8
#define RUN_MAX_FILTERS  32
#define RUN_MAX_JOBS     64
#define RUN_MAX_WRAPPER  32

typedef struct {
    char *program;
    char *filters[RUN_MAX_FILTERS];
    size_t filter_count;
    char *backends[RUN_MAX_BACKENDS];
    size_t backend_count;
    char *wrapper[RUN_MAX_WRAPPER];
    size_t wrapper_count;
    unsigned long seed;
    int shuffle;
    int list;
    size_t jobs;
    size_t repeat;
    uint64_t limit_ms;
} run_options_t;

static void run_die(const char *message) {
    fprintf(stderr, "tests: %s\n", message);
    exit(2);
}

static char *run_copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = (char *)malloc(size);
    if (copy == NULL)
        run_die("out of memory");
    memcpy(copy, text, size);
    return copy;
}

/* Splits a copy of `text`, which lives until the end. */
static size_t run_split(const char *text, const char *separators, char **parts, size_t max) {
    size_t count = 0;
    for (char *part = strtok(run_copy(text), separators); part != NULL;
         part = strtok(NULL, separators)) {
        if (count == max)
            run_die("too many parts in a list");
        parts[count++] = part;
    }
    return count;
}

/* The value of option `name` in "--name=value" or in "--name value"; NULL when it is another option. */
static const char *run_value(const char *name, char **argv, int *index) {
    size_t length = strlen(name);
    const char *arg = argv[*index];
    if (strncmp(arg, name, length) != 0)
        return NULL;
    if (arg[length] == '=')
        return arg + length + 1;
    if (arg[length] != '\0')
        return NULL;
    if (argv[*index + 1] == NULL)
        run_die("an option lacks its value");
    return argv[++*index];
}

static size_t run_number(const char *text, size_t min, size_t max) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || number < min || number > max)
        run_die("a number is out of range");
    return (size_t)number;
}

static void run_parse_option(run_options_t *options, char **argv, int *index) {
    const char *arg = argv[*index];
    const char *value;
    if (strcmp(arg, "--list") == 0) {
        options->list = 1;
    } else if (strcmp(arg, "--shuffle") == 0) {
        options->shuffle = 1;
        options->seed = (unsigned long)(test_ns() / 1000 % 1000000);
    } else if (strncmp(arg, "--shuffle=", 10) == 0) {
        options->shuffle = 1;
        options->seed = (unsigned long)run_number(arg + 10, 0, 0xffffffffu);
    } else if ((value = run_value("--filter", argv, index)) != NULL) {
        options->filter_count = run_split(value, ",", options->filters, RUN_MAX_FILTERS);
    } else if ((value = run_value("--backends", argv, index)) != NULL) {
        options->backend_count = run_split(value, ",", options->backends, RUN_MAX_BACKENDS);
    } else if ((value = run_value("--jobs", argv, index)) != NULL) {
        options->jobs = run_number(value, 1, RUN_MAX_JOBS);
    } else if ((value = run_value("--repeat", argv, index)) != NULL) {
        options->repeat = run_number(value, 1, 1000000);
    } else {
        fprintf(stderr, "tests: unknown option %s\n", arg);
        exit(2);
    }
}

static void run_parse(run_options_t *options, char **argv) {
    const char *limit = getenv("TEST_TIMEOUT");
    const char *wrapper = getenv("TEST_WRAPPER");
    memset(options, 0, sizeof(*options));
    options->program = argv[0];
    options->jobs = 1;
    options->repeat = 1;
    options->limit_ms = 1000 * (uint64_t)(limit != NULL ? run_number(limit, 1, 86400) : 10);
    if (wrapper != NULL)
        options->wrapper_count = run_split(wrapper, " ", options->wrapper, RUN_MAX_WRAPPER - 3);
    for (int index = 1; argv[index] != NULL; index++)
        run_parse_option(options, argv, &index);
}

/* ---- The runner: processes ------------------------------------------------------------------- */

/* The part that differs between systems: start a process with its output in a file, wait for any, kill. */

#if !defined(_WIN32)

typedef struct {
    pid_t pid; /* 0: none */
    FILE *output;
} run_process_t;

static int run_wake_fds[2];
static volatile sig_atomic_t run_interrupted;

static void run_on_signal(int signum) {
    int saved = errno;
    if (signum != SIGCHLD)
        run_interrupted = signum;
    if (write(run_wake_fds[1], "", 1) < 0)
        errno = saved; /* full: the reader is awake anyway */
    errno = saved;
}

static void run_init_processes(void) {
    struct sigaction action;
    if (pipe(run_wake_fds) != 0)
        run_die("cannot make a pipe");
    for (int i = 0; i < 2; i++) {
        fcntl(run_wake_fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(run_wake_fds[i], F_SETFL, O_NONBLOCK);
    }
    memset(&action, 0, sizeof(action));
    action.sa_handler = run_on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Ignored and blocked signals would outlive exec. */
static void run_reset_signals(void) {
    sigset_t none;
    for (int signum = 1; signum < 32; signum++)
        signal(signum, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_child(const run_options_t *options, const char *name, const char *backend,
                      FILE *output) {
    char *argv[RUN_MAX_WRAPPER + 1];
    size_t count = options->wrapper_count;
    char run[] = "--run";
    int null_fd = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    run_reset_signals();
    if (backend != NULL)
        setenv("EVLOOP_BACKEND", backend, 1);
    dup2(null_fd, 0);
    dup2(fileno(output), 1);
    dup2(fileno(output), 2);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    memcpy(argv, options->wrapper, count * sizeof(argv[0]));
    argv[count++] = options->program;
    argv[count++] = run;
    argv[count++] = run_copy(name);
    argv[count] = NULL;
    execvp(argv[0], argv);
    perror(argv[0]);
    _exit(127);
}

static void run_start(run_process_t *process, const run_options_t *options, const char *name,
                      const char *backend) {
    fflush(stdout);
    process->output = tmpfile();
    if (process->output == NULL)
        run_die("cannot make a temporary file");
    process->pid = fork();
    if (process->pid < 0)
        run_die("cannot start a process");
    if (process->pid == 0)
        run_child(options, name, backend, process->output);
    setpgid(process->pid, process->pid); /* as the child does, whichever comes first */
}

/* Ends the process and all that it has started. */
static void run_kill(const run_process_t *process) {
    kill(-process->pid, SIGKILL);
    kill(process->pid, SIGKILL);
}

/* Waits until a process may have ended, or for `ms`. */
static void run_wait(uint64_t ms) {
    char drain[64];
    struct pollfd wake;
    wake.fd = run_wake_fds[0];
    wake.events = POLLIN;
    poll(&wake, 1, ms > 1000 ? 1000 : (int)ms);
    while (read(run_wake_fds[0], drain, sizeof(drain)) > 0)
        continue;
}

/* 1 when the process has ended: its exit status, or minus its signal. */
static int run_ended(const run_process_t *process, int *status) {
    int raw;
    if (waitpid(process->pid, &raw, WNOHANG) != process->pid)
        return 0;
    *status = WIFSIGNALED(raw) ? -WTERMSIG(raw) : WEXITSTATUS(raw);
    kill(-process->pid, SIGKILL); /* what the test left behind */
    return 1;
}

static void run_describe(int status, char *text, size_t size) {
    snprintf(text, size, " (killed by signal %d: %s)", -status, strsignal(-status));
}

#else

/* In a job, so that what a test starts ends with it. */
typedef struct {
    HANDLE process;
    HANDLE job;
    FILE *output;
} run_process_t;

static volatile sig_atomic_t run_interrupted;

static BOOL WINAPI run_on_console(DWORD event) {
    (void)event;
    run_interrupted = SIGINT;
    return TRUE;
}

static void run_init_processes(void) {
    _setmode(_fileno(stdout), _O_BINARY);
    SetConsoleCtrlHandler(run_on_console, TRUE);
}

static HANDLE run_handle_of(FILE *file) {
    return (HANDLE)_get_osfhandle(_fileno(file));
}

/* A file that goes when it is closed: tmpfile() makes its own where only administrators may. */
static FILE *run_output_file(void) {
    char folder[MAX_PATH];
    char path[MAX_PATH];
    if (GetTempPathA(sizeof(folder), folder) == 0 || GetTempFileNameA(folder, "evl", 0, path) == 0)
        return NULL;
    HANDLE file =
        CreateFileA(path, GENERIC_READ | GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL,
                    CREATE_ALWAYS, FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return NULL;
    int fd = _open_osfhandle((intptr_t)file, _O_RDWR | _O_BINARY);
    return fd < 0 ? NULL : _fdopen(fd, "w+b");
}

/* Under wine one start in a thousand fails: the kernel has put something where the process must have
 * its shared data. */
static BOOL run_create(const char *program, char *command, STARTUPINFOA *startup,
                       PROCESS_INFORMATION *started) {
    BOOL done = FALSE;
    for (int tries = 0; tries < 4 && !done; tries++)
        done = CreateProcessA(program, command, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL,
                              startup, started);
    return done;
}

static void run_start(run_process_t *process, const run_options_t *options, const char *name,
                      const char *backend) {
    char program[MAX_PATH];
    char command[MAX_PATH + 256];
    STARTUPINFOA startup;
    PROCESS_INFORMATION started;
    HANDLE input = CreateFileA("NUL", GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
    (void)options;
    process->output = run_output_file();
    if (process->output == NULL)
        run_die("cannot make a temporary file");
    if (backend != NULL)
        SetEnvironmentVariableA("EVLOOP_BACKEND", backend);
    GetModuleFileNameA(NULL, program, sizeof(program));
    snprintf(command, sizeof(command), "\"%s\" --run %s", program, name);
    memset(&startup, 0, sizeof(startup));
    startup.cb = sizeof(startup);
    startup.dwFlags = STARTF_USESTDHANDLES;
    startup.hStdInput = input;
    startup.hStdOutput = startup.hStdError = run_handle_of(process->output);
    /* Inherited by this one process only. */
    SetHandleInformation(startup.hStdInput, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    SetHandleInformation(startup.hStdOutput, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    if (!run_create(program, command, &startup, &started))
        run_die("cannot start a process");
    SetHandleInformation(startup.hStdOutput, HANDLE_FLAG_INHERIT, 0);
    process->process = started.hProcess;
    process->job = CreateJobObjectA(NULL, NULL);
    AssignProcessToJobObject(process->job, started.hProcess);
    ResumeThread(started.hThread);
    CloseHandle(started.hThread);
    CloseHandle(input);
}

static void run_kill(const run_process_t *process) {
    TerminateJobObject(process->job, 1);
    TerminateProcess(process->process, 1);
}

/* Processes end more often than not before this has passed. */
static void run_wait(uint64_t ms) {
    Sleep(ms > 2 ? 2 : (DWORD)ms);
}

/* 1 when the process has ended: its exit status, negative for an exception. */
static int run_ended(run_process_t *process, int *status) {
    DWORD raw;
    if (WaitForSingleObject(process->process, 0) != WAIT_OBJECT_0)
        return 0;
    GetExitCodeProcess(process->process, &raw);
    *status = (int)raw;
    TerminateJobObject(process->job, 1);
    CloseHandle(process->process);
    CloseHandle(process->job);
    return 1;
}

static void run_describe(int status, char *text, size_t size) {
    snprintf(text, size, " (exception 0x%08x)", (unsigned)status);
}

#endif

/* ---- The runner: results --------------------------------------------------------------------- */

typedef enum { RUN_WAITING, RUN_RUNNING, RUN_PASSED, RUN_FAILED, RUN_SKIPPED } run_state_t;

typedef struct {
    const test_case_t *test;
    const char *backend; /* NULL: none asked for */
    run_state_t state;
    run_process_t process;
    uint64_t started_ms;
    int timed_out;
    char note[200];
    char *output; /* of a failed test */
} run_item_t;

typedef struct {
    run_options_t options;
    run_item_t *items;
    size_t count;
    size_t next;    /* the first that has not been started */
    size_t printed; /* how many results are out; they come in order */
    size_t running;
    size_t passed;
    size_t failed;
    size_t skipped;
} run_t;

#define RUN_MAX_OUTPUT 65536

static char *run_read_output(FILE *file) {
    char *text = (char *)malloc(RUN_MAX_OUTPUT + 1);
    if (text == NULL)
        run_die("out of memory");
    rewind(file);
    text[fread(text, 1, RUN_MAX_OUTPUT, file)] = '\0';
    return text;
}

/* The reason behind the last skip mark. */
static void run_note_skip(run_item_t *item, const char *output) {
    const char *mark = output;
    const char *reason = "";
    while ((mark = strstr(mark, TEST_SKIP_MARK)) != NULL) {
        mark += strlen(TEST_SKIP_MARK);
        reason = mark;
    }
    snprintf(item->note, sizeof(item->note), " # SKIP %.*s", (int)strcspn(reason, "\n"), reason);
}

static void run_finish(run_t *run, run_item_t *item, int status) {
    char *output = run_read_output(item->process.output);
    fclose(item->process.output);
    item->state = RUN_FAILED;
    if (item->timed_out) {
        snprintf(item->note, sizeof(item->note), " (over the time limit of %lu s)",
                 (unsigned long)(run->options.limit_ms / 1000));
    } else if (status < 0) {
        run_describe(status, item->note, sizeof(item->note));
    } else if (status == TEST_EXIT_SKIPPED) {
        item->state = RUN_SKIPPED;
        run_note_skip(item, output);
    } else if (status == 0) {
        item->state = RUN_PASSED;
    } else if (status != TEST_EXIT_FAILED) {
        snprintf(item->note, sizeof(item->note), " (exit status %d)", status);
    }
    if (item->state == RUN_FAILED)
        item->output = output;
    else
        free(output);
    run->passed += item->state == RUN_PASSED;
    run->failed += item->state == RUN_FAILED;
    run->skipped += item->state == RUN_SKIPPED;
    run->running--;
}

static void run_print_output(const char *output) {
    while (*output != '\0') {
        size_t length = strcspn(output, "\n");
        if (length > 0)
            printf("# %.*s\n", (int)length, output);
        output += length;
        output += *output == '\n';
    }
}

static void run_print(run_t *run) {
    for (; run->printed < run->count; run->printed++) {
        run_item_t *item = &run->items[run->printed];
        if (item->state == RUN_WAITING || item->state == RUN_RUNNING)
            break;
        printf("%s %lu - %s", item->state == RUN_FAILED ? "not ok" : "ok",
               (unsigned long)run->printed + 1, item->test->name);
        if (item->backend != NULL)
            printf(" [%s]", item->backend);
        printf("%s\n", item->note);
        if (item->output != NULL)
            run_print_output(item->output);
        free(item->output);
        item->output = NULL;
    }
    fflush(stdout);
}

/* ---- The runner: the whole run --------------------------------------------------------------- */

static int run_wanted(const run_options_t *options, const test_case_t *test) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", test->area, test->name);
    for (size_t i = 0; i < options->filter_count; i++)
        if (strstr(path, options->filters[i]) != NULL)
            return 1;
    return options->filter_count == 0;
}

static void run_collect(run_t *run) {
    const run_options_t *options = &run->options;
    size_t backends = options->backend_count > 0 ? options->backend_count : 1;
    size_t max = test_case_count() * backends * options->repeat;
    run->items = (run_item_t *)calloc(max + 1, sizeof(run_item_t));
    if (run->items == NULL)
        run_die("out of memory");
    for (size_t round = 0; round < options->repeat; round++)
        for (size_t i = 0; i < test_case_count(); i++)
            for (size_t b = 0; b < backends; b++)
                if (run_wanted(options, &test_cases[i])) {
                    run_item_t *item = &run->items[run->count++];
                    item->test = &test_cases[i];
                    item->backend = options->backend_count > 0 ? options->backends[b] : NULL;
                }
}

static void run_shuffle(run_t *run) {
    uint64_t state = run->options.seed;
    printf("# shuffle seed %lu\n", run->options.seed);
    for (size_t i = run->count; i > 1; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t j = (size_t)((state >> 33) % i);
        run_item_t item = run->items[j];
        run->items[j] = run->items[i - 1];
        run->items[i - 1] = item;
    }
}

static void run_start_more(run_t *run) {
    while (run->running < run->options.jobs && run->next < run->count) {
        run_item_t *item = &run->items[run->next++];
        item->state = RUN_RUNNING;
        item->started_ms = test_ms();
        run_start(&item->process, &run->options, item->test->name, item->backend);
        run->running++;
    }
}

/* Takes what has ended, kills what has run too long; returns the milliseconds until the next limit. */
static uint64_t run_watch(run_t *run) {
    uint64_t wait_ms = 1000;
    for (size_t i = run->printed; i < run->next; i++) {
        run_item_t *item = &run->items[i];
        int status;
        if (item->state != RUN_RUNNING)
            continue;
        if (run_ended(&item->process, &status)) {
            run_finish(run, item, status);
            wait_ms = 0;
            continue;
        }
        uint64_t age_ms = test_ms() - item->started_ms;
        if (age_ms >= run->options.limit_ms && !item->timed_out) {
            item->timed_out = 1;
            run_kill(&item->process);
        } else if (!item->timed_out && run->options.limit_ms - age_ms < wait_ms) {
            wait_ms = run->options.limit_ms - age_ms;
        }
    }
    return wait_ms;
}

static void run_abandon(run_t *run) {
    for (size_t i = run->printed; i < run->next; i++)
        if (run->items[i].state == RUN_RUNNING)
            run_kill(&run->items[i].process);
    exit(128 + run_interrupted);
}

static int run_all(run_t *run) {
    run_collect(run);
    if (run->options.shuffle)
        run_shuffle(run);
    printf("1..%lu\n", (unsigned long)run->count);
    run_init_processes();
    while (run->printed < run->count) {
        run_start_more(run);
        uint64_t wait_ms = run_watch(run);
        run_print(run);
        if (run_interrupted)
            run_abandon(run);
        if (wait_ms > 0)
            run_wait(wait_ms);
    }
    printf("%lu passed, %lu failed", (unsigned long)run->passed, (unsigned long)run->failed);
    if (run->skipped > 0)
        printf(", %lu skipped", (unsigned long)run->skipped);
    printf("\n");
    free(run->items);
    return run->failed > 0 || run->count == 0 ? 1 : 0;
}

int main(int argc, char **argv) {
    static run_t run; /* what it points to is no leak */
    if (argc == 3 && strcmp(argv[1], "--run") == 0)
        return test_run_here(argv[2]);
    run_parse(&run.options, argv);
    if (!run.options.list)
        return run_all(&run);
    for (size_t i = 0; i < test_case_count(); i++)
        if (run_wanted(&run.options, &test_cases[i]))
            printf("%s/%s\n", test_cases[i].area, test_cases[i].name);
    return 0;
}
