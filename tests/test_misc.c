/* What stands around the loop: errors, versions, types and sizes, allocator, clocks, addresses. */
#include "trace.h"

#include <signal.h>
#include <time.h>

#define MS UINT64_C(1000000)

static evl_loop_t loop;

static uint32_t random_state = 99;

static uint32_t random_next(uint32_t bound) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

typedef struct {
    int code;
    const char *name;
    const char *message;
} error_row_t;

static const error_row_t errors[] = {
#define XX(name, message) {EVL_##name, #name, message},
    EVL_ERRNO_MAP(XX)
#undef XX
};

enum { ERROR_COUNT = sizeof(errors) / sizeof(errors[0]) };

TEST(misc_error_names_and_messages) {
    char buf[128];
    CHECK_GE(ERROR_COUNT, 80);
    for (int i = 0; i < ERROR_COUNT; i++) {
        const error_row_t *error = &errors[i];
        CHECK_LT(error->code, 0);
        CHECK_STR(evl_err_name(error->code), error->name);
        CHECK_STR(evl_strerror(error->code), error->message);
        CHECK_PTR(evl_err_name_r(error->code, buf, sizeof(buf)), buf);
        CHECK_STR(buf, error->name);
        CHECK_PTR(evl_strerror_r(error->code, buf, sizeof(buf)), buf);
        CHECK_STR(buf, error->message);
        for (int j = 0; j < i; j++) /* each has a code of its own */
            CHECK_NE(error->code, errors[j].code);
    }
    CHECK_STR(evl_err_name(EVL_EINVAL), "EINVAL");
    CHECK_STR(evl_strerror(EVL_EINVAL), "invalid argument");
    CHECK_STR(evl_strerror(EVL_EOF), "end of file");
    CHECK_STR(evl_err_name(EVL_UNKNOWN), "UNKNOWN");
}

TEST(misc_error_codes_are_those_of_libuv) {
    CHECK_EQ(EVL_EOF, -4095);
    CHECK_EQ(EVL_UNKNOWN, -4094);
    CHECK_EQ(EVL_EAI_ADDRFAMILY, -3000);
    CHECK_EQ(EVL_EAI_BADHINTS, -3013);
    CHECK_EQ(EVL_EAI_PROTOCOL, -3014);
    CHECK_EQ(EVL_EINVAL, OS_CODE(EINVAL, -4071));
    CHECK_EQ(EVL_EAGAIN, OS_CODE(EAGAIN, -4088));
    CHECK_EQ(EVL_ECANCELED, OS_CODE(ECANCELED, -4081));
    CHECK_EQ(EVL_ENOTSUP, OS_CODE(ENOTSUP, -4049));
    CHECK_EQ(EVL_ERRNO_MAX, -4096);
}

TEST(misc_unknown_errors) {
    static const int codes[] = {1337, -1337, 0, 1, -100000, 2147483647, -2147483647 - 1};
    for (int i = 0; i < 7; i++) {
        char expected[64], buf[64];
        snprintf(expected, sizeof(expected), "Unknown system error %d", codes[i]);
        CHECK_STR(evl_strerror(codes[i]), expected);
        CHECK_STR(evl_err_name(codes[i]), expected);
        CHECK_STR(evl_strerror_r(codes[i], buf, sizeof(buf)), expected);
        CHECK_STR(evl_err_name_r(codes[i], buf, sizeof(buf)), expected);
    }
    size_t allocations = test_alloc_calls(); /* libuv leaks one here */
    evl_strerror(1337);
    CHECK_EQ(test_alloc_calls(), allocations);
}

/* The _r forms write what fits, terminated, and nothing behind it. */
static void check_cut_off(char *(*function)(int, char *, size_t), int code, const char *full) {
    for (size_t size = 0; size <= strlen(full) + 2; size++) {
        char buf[96], expected[96];
        size_t kept = size == 0 ? 0 : size - 1 < strlen(full) ? size - 1 : strlen(full);
        CHECK_LT(strlen(full) + 3, sizeof(buf));
        memset(buf, '#', sizeof(buf));
        memset(expected, '#', sizeof(expected));
        memcpy(expected, full, kept);
        if (size > 0)
            expected[kept] = '\0';
        CHECK_PTR(function(code, buf, size), buf);
        CHECK_MEM(buf, expected, kept + (size > 0));
        for (size_t i = size; i < sizeof(buf); i++)
            CHECK_EQ(buf[i], '#');
    }
}

TEST(misc_error_texts_are_cut_off_to_the_buffer) {
    check_cut_off(evl_err_name_r, EVL_EADDRNOTAVAIL, "EADDRNOTAVAIL");
    check_cut_off(evl_strerror_r, EVL_EADDRNOTAVAIL, "address not available");
    check_cut_off(evl_err_name_r, -1337, "Unknown system error -1337");
    check_cut_off(evl_strerror_r, -1337, "Unknown system error -1337");
}

#if !defined(_WIN32)

TEST(misc_translate_sys_error) {
    static const int codes[] = {EPERM,  ENOENT,     EINTR,        EAGAIN,    ENOMEM, EINVAL,
                                EMFILE, ECONNRESET, ECONNREFUSED, ETIMEDOUT, EPIPE,  ENOTSUP};
    for (int i = 0; i < 12; i++) {
        CHECK_EQ(evl_translate_sys_error(codes[i]), -codes[i]);
        CHECK_EQ(evl_translate_sys_error(-codes[i]), -codes[i]);
    }
    CHECK_EQ(evl_translate_sys_error(ENOENT), EVL_ENOENT);
    CHECK_EQ(evl_translate_sys_error(0), 0);
    CHECK_EQ(evl_translate_sys_error(EVL_EOF), EVL_EOF);
}

#else

TEST(misc_translate_sys_error) {
    static const int codes[][2] = {
        {WSAEWOULDBLOCK, EVL_EAGAIN},          {WSAECONNRESET, EVL_ECONNRESET},
        {WSAECONNREFUSED, EVL_ECONNREFUSED},   {WSAEMFILE, EVL_EMFILE},
        {WSAETIMEDOUT, EVL_ETIMEDOUT},         {ERROR_FILE_NOT_FOUND, EVL_ENOENT},
        {ERROR_NOT_ENOUGH_MEMORY, EVL_ENOMEM}, {ERROR_OPERATION_ABORTED, EVL_ECANCELED},
        {ERROR_BROKEN_PIPE, EVL_EOF},          {ERROR_NO_DATA, EVL_EPIPE}};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        CHECK_EQ(evl_translate_sys_error(codes[i][0]), codes[i][1]);
    CHECK_EQ(evl_translate_sys_error(123456), EVL_UNKNOWN);
    CHECK_EQ(evl_translate_sys_error(EVL_ENOENT), EVL_ENOENT);
    CHECK_EQ(evl_translate_sys_error(0), 0);
    CHECK_EQ(evl_translate_sys_error(EVL_EOF), EVL_EOF);
}

#endif /* !_WIN32 */

/* ---- Versions -------------------------------------------------------------------------------- */

TEST(misc_version) {
    char expected[64];
    CHECK_EQ(evl_version(), EVL_VERSION_HEX);
    CHECK_EQ(evl_version() >> 16, EVL_VERSION_MAJOR);
    CHECK_EQ(evl_version() >> 8 & 0xff, EVL_VERSION_MINOR);
    CHECK_EQ(evl_version() & 0xff, EVL_VERSION_PATCH);
    CHECK_EQ(EVL_VERSION_MAJOR, 1);
    CHECK_EQ(EVL_VERSION_MINOR, 52);
    snprintf(expected, sizeof(expected), "%d.%d.%d%s%s", EVL_VERSION_MAJOR, EVL_VERSION_MINOR,
             EVL_VERSION_PATCH, EVL_VERSION_IS_RELEASE ? "" : "-", EVL_VERSION_SUFFIX);
    CHECK_STR(evl_version_string(), expected);
    CHECK_GT(strlen(EVLOOP_VERSION), 0);
}

/* ---- Types ----------------------------------------------------------------------------------- */

TEST(misc_handle_sizes) {
    CHECK_EQ(evl_handle_size(EVL_ASYNC), sizeof(evl_async_t));
    CHECK_EQ(evl_handle_size(EVL_CHECK), sizeof(evl_check_t));
    CHECK_EQ(evl_handle_size(EVL_IDLE), sizeof(evl_idle_t));
    CHECK_EQ(evl_handle_size(EVL_PREPARE), sizeof(evl_prepare_t));
    CHECK_EQ(evl_handle_size(EVL_TIMER), sizeof(evl_timer_t));
    CHECK_EQ(evl_handle_size(EVL_POLL), sizeof(evl_poll_t));
    CHECK_EQ(evl_handle_size(EVL_HANDLE), sizeof(evl_handle_t));
#ifndef EVLOOP_NO_NET
    CHECK_EQ(evl_handle_size(EVL_TCP), sizeof(evl_tcp_t));
    CHECK_EQ(evl_handle_size(EVL_STREAM), sizeof(evl_stream_t));
#endif
    CHECK(evl_handle_size(EVL_UNKNOWN_HANDLE) == (size_t)-1);
    CHECK(evl_handle_size(EVL_HANDLE_TYPE_MAX) == (size_t)-1);
}

TEST(misc_req_sizes) {
    CHECK_EQ(evl_req_size(EVL_REQ), sizeof(evl_req_t));
#ifndef EVLOOP_NO_NET
    CHECK_EQ(evl_req_size(EVL_CONNECT), sizeof(evl_connect_t));
    CHECK_EQ(evl_req_size(EVL_WRITE), sizeof(evl_write_t));
    CHECK_EQ(evl_req_size(EVL_SHUTDOWN), sizeof(evl_shutdown_t));
    CHECK_EQ(evl_req_size(EVL_PUMP), sizeof(evl_pump_t));
#endif
    CHECK(evl_req_size(EVL_UNKNOWN_REQ) == (size_t)-1);
    CHECK(evl_req_size(EVL_REQ_TYPE_MAX) == (size_t)-1);
}

TEST(misc_type_names) {
#define XX(upper, lower) CHECK_STR(evl_handle_type_name(EVL_##upper), #lower);
    EVL_HANDLE_TYPE_MAP(XX)
#undef XX
    CHECK_STR(evl_handle_type_name(EVL_FILE), "file");
    CHECK_STR(evl_handle_type_name(EVL_NAMED_PIPE), "pipe");
    CHECK(evl_handle_type_name(EVL_UNKNOWN_HANDLE) == NULL);
    CHECK(evl_handle_type_name(EVL_HANDLE_TYPE_MAX) == NULL);
#define XX(upper, lower) CHECK_STR(evl_req_type_name(EVL_##upper), #lower);
    EVL_REQ_TYPE_MAP(XX)
#undef XX
    CHECK(evl_req_type_name(EVL_UNKNOWN_REQ) == NULL);
    CHECK(evl_req_type_name(EVL_REQ_TYPE_MAX) == NULL);
}

TEST(misc_structs_stay_small) {
    if (sizeof(void *) != 8)
        SKIP("the bars are for 64-bit machines");
    CHECK_LE(sizeof(evl_timer_t), 96);
    CHECK_LE(sizeof(evl_async_t), 80);
#ifndef EVLOOP_NO_NET
    CHECK_LE(sizeof(evl_write_t), 144);
    CHECK_LE(sizeof(evl_tcp_t), 168);
#endif
}

TEST(misc_handle_and_req_fields) {
    evl_timer_t timer;
    evl_handle_t *handle = (evl_handle_t *)&timer;
    evl_req_t req;
    int value = 0;
    CHECK_EQ(evl_loop_init(&loop), 0);
    timer.data = &value;
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_PTR(timer.data, &value); /* init leaves it alone, as libuv does */
    CHECK_PTR(evl_handle_get_data(handle), &value);
    evl_handle_set_data(handle, &loop);
    CHECK_PTR(timer.data, &loop);
    CHECK_PTR(handle->data, &loop);
    CHECK_EQ(evl_handle_get_type(handle), EVL_TIMER);
    CHECK_EQ(timer.type, EVL_TIMER);
    CHECK_PTR(evl_handle_get_loop(handle), &loop);
    CHECK_PTR(timer.loop, &loop);
    memset(&req, 0, sizeof(req));
    req.type = EVL_WRITE;
    evl_req_set_data(&req, &value);
    CHECK_PTR(req.data, &value);
    CHECK_PTR(evl_req_get_data(&req), &value);
    CHECK_EQ(evl_req_get_type(&req), EVL_WRITE);
    finish(&loop);
}

TEST(misc_handle_types) {
    evl_async_t async;
    evl_check_t check;
    evl_idle_t idle;
    evl_prepare_t prepare;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(async.type, EVL_ASYNC);
    CHECK_EQ(check.type, EVL_CHECK);
    CHECK_EQ(idle.type, EVL_IDLE);
    CHECK_EQ(prepare.type, EVL_PREPARE);
    CHECK_PTR(async.loop, &loop);
    CHECK_EQ(evl_is_active((evl_handle_t *)&check), 0);
    CHECK_EQ(evl_has_ref((evl_handle_t *)&check), 1);
    CHECK_EQ(evl_is_closing((evl_handle_t *)&check), 0);
    finish(&loop);
}

TEST(misc_calls_on_the_wrong_kind_of_handle) {
    evl_timer_t timer;
    evl_handle_t *handle = (evl_handle_t *)&timer;
    evl_os_fd_t fd;
    int value = 0;
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_fileno(handle, &fd), EVL_EINVAL);
    CHECK_EQ(evl_send_buffer_size(handle, &value), EVL_ENOTSUP);
    CHECK_EQ(evl_recv_buffer_size(handle, &value), EVL_ENOTSUP);
    CHECK_EQ(evl_send_buffer_size(NULL, &value), EVL_EINVAL);
    CHECK_EQ(evl_recv_buffer_size(handle, NULL), EVL_EINVAL);
    finish(&loop);
}

TEST(misc_buf_init) {
    char bytes[10];
    evl_buf_t buf = evl_buf_init(bytes, 10);
    CHECK_PTR(buf.base, bytes);
    CHECK_EQ(buf.len, 10);
    buf = evl_buf_init(NULL, 0);
    CHECK_PTR(buf.base, NULL);
    CHECK_EQ(buf.len, 0);
    buf = evl_buf_init(bytes, 4294967295u);
    CHECK_EQ(buf.len, 4294967295u);
}

/* ---- Printing -------------------------------------------------------------------------------- */

static void read_all(FILE *file, char *text_out, size_t size) {
    rewind(file);
    size_t length = fread(text_out, 1, size - 1, file);
    text_out[length] = '\0';
    CHECK_EQ(fclose(file), 0);
}

static void line_of(char *line, size_t size, const char *flags, const char *type, const void *p) {
    snprintf(line, size, "[%s] %-8s %p\n", flags, type, p);
}

TEST(misc_print_handles) {
    evl_timer_t timer;
    evl_idle_t idle;
    evl_async_t async;
    char expected[512], line[128], printed[512];
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_idle_init(&loop, &idle), 0);
    CHECK_EQ(evl_async_init(&loop, &async, NULL), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    evl_unref((evl_handle_t *)&async);
    line_of(line, sizeof(line), "RA-", "timer", &timer);
    memcpy(expected, line, strlen(line) + 1);
    line_of(line, sizeof(line), "R--", "idle", &idle);
    strncat(expected, line, sizeof(expected) - strlen(expected) - 1);
    line_of(line, sizeof(line), "-A-", "async", &async);
    strncat(expected, line, sizeof(expected) - strlen(expected) - 1);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    evl_print_all_handles(&loop, file);
    read_all(file, printed, sizeof(printed));
    CHECK_STR(printed, expected);
    file = tmpfile();
    CHECK(file != NULL);
    evl_print_active_handles(&loop, file);
    read_all(file, printed, sizeof(printed));
    line_of(expected, sizeof(expected), "RA-", "timer", &timer);
    strncat(expected, line, sizeof(expected) - strlen(expected) - 1);
    CHECK_STR(printed, expected);
    finish(&loop);
}

/* One that is closing is still a handle of the loop. */
TEST(misc_print_closing_handles) {
    evl_timer_t timer;
    char expected[128], printed[128];
    CHECK_EQ(evl_loop_init(&loop), 0);
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    CHECK_EQ(evl_timer_start(&timer, never_timer, 3600000, 0), 0);
    evl_close((evl_handle_t *)&timer, NULL);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    evl_print_all_handles(&loop, file);
    read_all(file, printed, sizeof(printed));
    line_of(expected, sizeof(expected), "R--", "timer", &timer);
    CHECK_STR(printed, expected);
    finish(&loop);
}

TEST(misc_print_handles_of_the_default_loop) {
    evl_timer_t timer;
    char expected[128], printed[128];
    CHECK_EQ(evl_timer_init(evl_default_loop(), &timer), 0);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    evl_print_all_handles(NULL, file);
    evl_print_active_handles(NULL, file);
    read_all(file, printed, sizeof(printed));
    line_of(expected, sizeof(expected), "R--", "timer", &timer);
    CHECK_STR(printed, expected);
    finish(evl_default_loop());
}

/* As in libuv, no stream means the standard error. */
TEST(misc_print_handles_to_stderr) {
    CHECK_EQ(evl_loop_init(&loop), 0);
    evl_timer_t timer;
    CHECK_EQ(evl_timer_init(&loop, &timer), 0);
    evl_print_all_handles(&loop, NULL);
    evl_print_active_handles(&loop, NULL);
    finish(&loop);
}

/* ---- The allocator --------------------------------------------------------------------------- */

static int my_allocations, my_frees;

static void *my_malloc(size_t size) {
    my_allocations++;
    return malloc(size);
}

static void *my_calloc(size_t count, size_t size) {
    my_allocations++;
    return calloc(count, size);
}

static void *my_realloc(void *block, size_t size) {
    my_allocations += block == NULL;
    return realloc(block, size);
}

static void my_free(void *block) {
    my_frees += block != NULL;
    free(block);
}

static void use_the_allocator(void) {
    evl_timer_t timers[50];
    trace_reset();
    CHECK_EQ(evl_loop_init(&loop), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(evl_timer_init(&loop, &timers[i]), 0);
        timers[i].data = text("t");
        CHECK_EQ(evl_timer_start(&timers[i], trace_timer, 0, 0), 0);
        CHECK_EQ(evl_set_immediate(&loop, trace_task, text("i"), NULL), 0);
        CHECK_EQ(evl_next_tick(&loop, trace_task, text("k")), 0);
        CHECK_EQ(evl_post(&loop, trace_task, text("p")), 0);
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(trace_length, 200);
    finish(&loop);
}

TEST(misc_replace_allocator) {
    size_t before = test_alloc_calls();
    CHECK_EQ(evl_replace_allocator(NULL, my_realloc, my_calloc, my_free), EVL_EINVAL);
    CHECK_EQ(evl_replace_allocator(my_malloc, NULL, my_calloc, my_free), EVL_EINVAL);
    CHECK_EQ(evl_replace_allocator(my_malloc, my_realloc, NULL, my_free), EVL_EINVAL);
    CHECK_EQ(evl_replace_allocator(my_malloc, my_realloc, my_calloc, NULL), EVL_EINVAL);
    use_the_allocator();
    CHECK_EQ(my_allocations, 0); /* a refused one is not used in part */
    CHECK_GT(test_alloc_calls(), before);
    before = test_alloc_calls();
    CHECK_EQ(evl_replace_allocator(my_malloc, my_realloc, my_calloc, my_free), 0);
    use_the_allocator();
    CHECK_EQ(test_alloc_calls(), before); /* all of it goes there */
    CHECK_GT(my_allocations, 0);
    CHECK_EQ(my_frees, my_allocations);
}

TEST(misc_library_shutdown) {
    evl_timer_t timer;
    evl_library_shutdown(); /* nothing to do */
    CHECK(evl_default_loop() != NULL);
    CHECK_EQ(evl_timer_init(evl_default_loop(), &timer), 0);
    evl_library_shutdown(); /* something is open: it stays */
    evl_close((evl_handle_t *)&timer, NULL);
    CHECK_EQ(evl_run(evl_default_loop(), EVL_RUN_DEFAULT), 0);
    evl_library_shutdown();
    CHECK_EQ(test_alloc_live(), 0);
    evl_library_shutdown();
}

/* ---- Clocks ---------------------------------------------------------------------------------- */

TEST(misc_hrtime) {
    uint64_t last = evl_hrtime();
    for (int i = 0; i < 100000; i++) {
        uint64_t now = evl_hrtime();
        CHECK_GE(now, last);
        last = now;
    }
    uint64_t before = test_ns();
    uint64_t start = evl_hrtime();
    test_sleep_ms(5);
    uint64_t end = evl_hrtime();
    CHECK_GE(end - start, 5 * MS);
    CHECK_LE(end - start, test_ns() - before);
}

TEST(misc_clock_gettime) {
    evl_timespec64_t first, second;
    volatile int none = 77;
    CHECK_EQ(evl_clock_gettime(EVL_CLOCK_MONOTONIC, NULL), EVL_EFAULT);
    CHECK_EQ(evl_clock_gettime(EVL_CLOCK_REALTIME, NULL), EVL_EFAULT);
    CHECK_EQ(evl_clock_gettime((evl_clock_id)none, &first), EVL_EINVAL);
    uint64_t start = evl_hrtime();
    CHECK_EQ(evl_clock_gettime(EVL_CLOCK_MONOTONIC, &first), 0);
    test_sleep_ms(3);
    CHECK_EQ(evl_clock_gettime(EVL_CLOCK_MONOTONIC, &second), 0);
    uint64_t spent = evl_hrtime() - start;
    CHECK_GE(first.tv_nsec, 0);
    CHECK_LT(first.tv_nsec, 1000000000);
    int64_t difference =
        (second.tv_sec - first.tv_sec) * 1000000000 + (second.tv_nsec - first.tv_nsec);
    CHECK_GE(difference, 3 * (int64_t)MS);
    CHECK_LE(difference, (int64_t)spent);
    time_t now = time(NULL);
    CHECK_EQ(evl_clock_gettime(EVL_CLOCK_REALTIME, &first), 0);
    CHECK_GE(first.tv_sec, (int64_t)now - 1);
    CHECK_LE(first.tv_sec, (int64_t)time(NULL) + 1);
    CHECK_GE(first.tv_nsec, 0);
    CHECK_LT(first.tv_nsec, 1000000000);
}

static volatile int sleeping_done;

static void *interrupt_sleeper(void *arg) {
    os_thread_t sleeper = *(os_thread_t *)arg;
    while (!shared_get(&sleeping_done)) {
        os_interrupt(sleeper);
        busy_ns(100000);
    }
    return NULL;
}

TEST(misc_sleep_is_not_cut_short) {
    os_thread_t thread, self = os_self();
    os_take_interrupts();
    start_thread(&thread, interrupt_sleeper, &self);
    uint64_t start = test_ns();
    evl_sleep(20);
    CHECK_GE(test_ns() - start, 20 * MS);
    shared_set(&sleeping_done, 1);
    join_thread(thread);
    evl_sleep(0);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

TEST(misc_ip4_addr_and_name) {
    static const char *const good[] = {"0.0.0.0", "127.0.0.1", "255.255.255.255", "1.2.3.4",
                                       "192.168.100.10"};
    static const char *const bad[] = {"",
                                      "1.2.3",
                                      "1.2.3.4.5",
                                      "256.1.1.1",
                                      "1.2.3.256",
                                      "1..2.3",
                                      ".1.2.3",
                                      "1.2.3.",
                                      "a.b.c.d",
                                      "1.2.3.4 ",
                                      " 1.2.3.4",
                                      "1.2.3.4x",
                                      "01.2.3.4",
                                      "1.2.3.04",
                                      "0x1.2.3.4",
                                      "-1.2.3.4",
                                      "1.2.3.-4",
                                      "1,2,3,4",
                                      "localhost",
                                      "::1",
                                      "1234.1.1.1",
                                      "1.2.3.4%1",
                                      "1.2.3.4\n",
                                      "+1.2.3.4",
                                      "999999999999999999999999999999.1.1.1.1.1.1.1.1.1.1.1"};
    struct sockaddr_in addr, expected;
    char name[64];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        memset(&addr, 0x5a, sizeof(addr));
        memset(&expected, 0, sizeof(expected));
        expected.sin_family = AF_INET;
        expected.sin_port = htons(54321);
        CHECK_EQ(inet_pton(AF_INET, good[i], &expected.sin_addr), 1);
        CHECK_EQ(evl_ip4_addr(good[i], 54321, &addr), 0);
        CHECK_EQ(addr.sin_family, AF_INET);
        CHECK_EQ(addr.sin_port, expected.sin_port);
        CHECK_EQ(addr.sin_addr.s_addr, expected.sin_addr.s_addr);
        CHECK_EQ(evl_ip4_name(&addr, name, sizeof(name)), 0);
        CHECK_STR(name, good[i]);
        CHECK_EQ(evl_ip_name((const struct sockaddr *)&addr, name, sizeof(name)), 0);
        CHECK_STR(name, good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_EQ(evl_ip4_addr(bad[i], 80, &addr), EVL_EINVAL);
    CHECK_EQ(evl_ip4_addr("1.2.3.4", 0, &addr), 0);
    CHECK_EQ(addr.sin_port, 0);
    CHECK_EQ(evl_ip4_addr("1.2.3.4", 65535, &addr), 0);
    CHECK_EQ(ntohs(addr.sin_port), 65535);
}

TEST(misc_ip6_addr_and_name) {
    static const char *const good[][2] = {
        {"::", "::"},
        {"::1", "::1"},
        {"::2", "::2"},
        {"1::", "1::"},
        {"fe80::2acf:daff:fedd:342a", "fe80::2acf:daff:fedd:342a"},
        {"FE80::ABCD", "fe80::abcd"},
        {"0:0:0:0:0:0:0:0", "::"},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
        {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
        {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        {"1:0:0:2:0:0:0:3", "1:0:0:2::3"},
        {"1:0:0:2:3:0:0:4", "1::2:3:0:0:4"},
        {"0001:0002:0003:0004:0005:0006:0007:0008", "1:2:3:4:5:6:7:8"},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
        {"::1.2.3.4", "::1.2.3.4"},
        {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}};
    static const char *const bad[] = {"",
                                      ":",
                                      ":::",
                                      "1",
                                      "1:",
                                      ":1",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1:2:3:4:5:6:7:8:",
                                      "1:2:3:4:5:6:7:8::",
                                      "::1:2:3:4:5:6:7:8",
                                      "1::2::3",
                                      "12345::",
                                      "g::",
                                      "::1 ",
                                      " ::1",
                                      "[::1]",
                                      "::1.2.3.256",
                                      "::1.2.3",
                                      "1:2:3:4:5:6:7:1.2.3.4",
                                      "1.2.3.4",
                                      "1.2.3.4::",
                                      "fe80::2acf:daff:fedd:342a:5678:1234:abcd:ef01",
                                      "::ffff:01.2.3.4",
                                      "1:2:3:4:5:6:7:8:1:2:3:4:5:6:7:8:1:2:3:4:5:6:7:8:1:2:3:4"};
    struct sockaddr_in6 addr;
    char name[64];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct in6_addr expected;
        memset(&addr, 0x5a, sizeof(addr));
        CHECK_EQ(inet_pton(AF_INET6, good[i][0], &expected), 1);
        CHECK_EQ(evl_ip6_addr(good[i][0], 8080, &addr), 0);
        CHECK_EQ(addr.sin6_family, AF_INET6);
        CHECK_EQ(ntohs(addr.sin6_port), 8080);
        CHECK_EQ(addr.sin6_scope_id, 0);
        CHECK_EQ(addr.sin6_flowinfo, 0);
        CHECK_MEM(&addr.sin6_addr, &expected, sizeof(expected));
        CHECK_EQ(evl_ip6_name(&addr, name, sizeof(name)), 0);
        CHECK_STR(name, good[i][1]);
        CHECK_EQ(evl_ip_name((const struct sockaddr *)&addr, name, sizeof(name)), 0);
        CHECK_STR(name, good[i][1]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_EQ(evl_ip6_addr(bad[i], 80, &addr), EVL_EINVAL);
}

TEST(misc_ip6_scope_ids) {
    struct sockaddr_in6 addr;
    struct in6_addr expected, parsed;
    char long_text[4096];
    unsigned lo = os_scope_id(OS_LOOPBACK);
    CHECK_EQ(os_inet_pton(AF_INET6, "fe80::1", &expected), 1);
    CHECK_EQ(evl_ip6_addr("fe80::1%" OS_LOOPBACK, 1, &addr), 0);
    CHECK_EQ(addr.sin6_scope_id, lo);
    CHECK_MEM(&addr.sin6_addr, &expected, sizeof(expected));
    CHECK_EQ(evl_ip6_addr("fe80::1%no-such-interface", 1, &addr), 0); /* as libuv */
    CHECK_EQ(addr.sin6_scope_id, 0);
    CHECK_MEM(&addr.sin6_addr, &expected, sizeof(expected));
    CHECK_EQ(evl_ip6_addr("fe80::1%", 1, &addr), 0);
    CHECK_EQ(addr.sin6_scope_id, 0);
    CHECK_EQ(evl_ip6_addr("%" OS_LOOPBACK, 1, &addr), EVL_EINVAL);
    CHECK_EQ(evl_ip6_addr("fe80::g%" OS_LOOPBACK, 1, &addr), EVL_EINVAL);
    /* inet_pton takes the address and leaves the scope out. */
    CHECK_EQ(evl_inet_pton(AF_INET6, "fe80::1%" OS_LOOPBACK, &parsed), 0);
    CHECK_MEM(&parsed, &expected, sizeof(expected));
    CHECK_EQ(evl_inet_pton(AF_INET6, "fe80::1%en1", &parsed), 0);
    CHECK_EQ(evl_inet_pton(AF_INET6, "fe80::1%%%", &parsed), 0);
    CHECK_EQ(evl_inet_pton(AF_INET6, "%" OS_LOOPBACK, &parsed), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET, "1.2.3.4%" OS_LOOPBACK, &parsed), EVL_EINVAL);
    /* Whatever its length. */
    memset(long_text, 'x', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    memcpy(long_text, "fe80::1%", 8);
    CHECK_EQ(evl_ip6_addr(long_text, 1, &addr), 0);
    CHECK_EQ(addr.sin6_scope_id, 0);
    CHECK_EQ(evl_inet_pton(AF_INET6, long_text, &parsed), 0);
    memset(long_text, '1', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 3] = '%';
    CHECK_EQ(evl_ip6_addr(long_text, 1, &addr), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET6, long_text, &parsed), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET, long_text, &parsed), EVL_EINVAL);
}

TEST(misc_inet_random_round_trips) {
    for (int i = 0; i < 20000; i++) {
        unsigned char bytes[16], back[16];
        char ours[64], theirs[64];
        for (int j = 0; j < 16; j++)
            bytes[j] = (unsigned char)random_next(256);
        for (uint32_t runs = random_next(4); runs > 0; runs--) { /* runs of zeros */
            uint32_t from = random_next(8) * 2, length = random_next(8) * 2;
            for (uint32_t j = from; j < from + length && j < 16; j++)
                bytes[j] = 0;
        }
        CHECK_EQ(evl_inet_ntop(AF_INET6, bytes, ours, sizeof(ours)), 0);
        CHECK_EQ(evl_inet_pton(AF_INET6, ours, back), 0);
        CHECK_MEM(back, bytes, 16);
        CHECK(inet_ntop(AF_INET6, bytes, theirs, sizeof(theirs)) != NULL);
        CHECK_EQ(evl_inet_pton(AF_INET6, theirs, back), 0);
        CHECK_MEM(back, bytes, 16);
#if defined(__GLIBC__) /* as RFC 5952 has it; others shorten another run of zeros */
        CHECK_STR(ours, theirs);
#endif
        CHECK_EQ(evl_inet_ntop(AF_INET, bytes, ours, sizeof(ours)), 0);
        CHECK(inet_ntop(AF_INET, bytes, theirs, sizeof(theirs)) != NULL);
        CHECK_STR(ours, theirs);
        CHECK_EQ(evl_inet_pton(AF_INET, ours, back), 0);
        CHECK_MEM(back, bytes, 4);
    }
}

/* Random text never crashes the parsers, and what they take is what the system takes. */
TEST(misc_inet_random_text) {
    static const char letters[] = "0123456789abcdefABF::::....%gx ";
    for (int i = 0; i < 50000; i++) {
        char input[48];
        unsigned char ours[16], theirs[16];
        uint32_t length = random_next(sizeof(input));
        for (uint32_t j = 0; j < length; j++)
            input[j] = letters[random_next(i % 2 == 0 ? 10 : sizeof(letters) - 1)];
        if (i % 2 == 0) /* nearly an address */
            for (uint32_t j = 1 + random_next(3); j < length; j += 1 + random_next(4))
                input[j] = random_next(2) ? ':' : '.';
        input[length] = '\0';
        int result = evl_inet_pton(AF_INET, input, ours);
        CHECK_EQ(result == 0, inet_pton(AF_INET, input, theirs) == 1);
        if (result == 0)
            CHECK_MEM(ours, theirs, 4);
        char *scope = strchr(input, '%');
        result = evl_inet_pton(AF_INET6, input, ours);
        if (scope != NULL)
            *scope = '\0';
        CHECK_EQ(result == 0, inet_pton(AF_INET6, input, theirs) == 1);
        if (result == 0)
            CHECK_MEM(ours, theirs, 16);
    }
}

static void check_room(int af, const void *address, const char *full) {
    for (size_t size = 0; size <= strlen(full) + 2; size++) {
        char buf[64];
        memset(buf, '#', sizeof(buf));
        int result = evl_inet_ntop(af, address, buf, size);
        if (size <= strlen(full)) {
            CHECK_EQ(result, EVL_ENOSPC);
        } else {
            CHECK_EQ(result, 0);
            CHECK_STR(buf, full);
        }
        for (size_t i = size; i < sizeof(buf); i++)
            CHECK_EQ(buf[i], '#');
    }
}

TEST(misc_inet_ntop_never_writes_past_the_buffer) {
    unsigned char bytes[16];
    memset(bytes, 0xff, sizeof(bytes));
    check_room(AF_INET, bytes, "255.255.255.255");
    check_room(AF_INET6, bytes, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    memset(bytes, 0, sizeof(bytes));
    check_room(AF_INET, bytes, "0.0.0.0");
    check_room(AF_INET6, bytes, "::");
    bytes[10] = bytes[11] = 0xff;
    memset(bytes + 12, 200, 4);
    check_room(AF_INET6, bytes, "::ffff:200.200.200.200");
}

TEST(misc_inet_errors) {
    unsigned char bytes[16];
    char name[64];
    struct sockaddr local;
    memset(bytes, 0, sizeof(bytes));
    CHECK_EQ(evl_inet_pton(AF_UNIX, "1.2.3.4", bytes), EVL_EAFNOSUPPORT);
    CHECK_EQ(evl_inet_ntop(AF_UNIX, bytes, name, sizeof(name)), EVL_EAFNOSUPPORT);
    CHECK_EQ(evl_inet_pton(AF_UNSPEC, "1.2.3.4", bytes), EVL_EAFNOSUPPORT);
    CHECK_EQ(evl_inet_pton(AF_INET, NULL, bytes), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET, "1.2.3.4", NULL), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET6, NULL, bytes), EVL_EINVAL);
    CHECK_EQ(evl_inet_pton(AF_INET6, "::1", NULL), EVL_EINVAL);
    memset(&local, 0, sizeof(local));
    local.sa_family = AF_UNIX;
    CHECK_EQ(evl_ip_name(&local, name, sizeof(name)), EVL_EAFNOSUPPORT);
}

/* ---- Socket pairs and pipes ------------------------------------------------------------------ */

TEST(misc_socketpair) {
    for (int mode = 0; mode < 4; mode++) {
        evl_os_sock_t sockets[2];
        char bytes[8];
        int flags[2] = {mode & 1 ? EVL_NONBLOCK_PIPE : 0, mode & 2 ? EVL_NONBLOCK_PIPE : 0};
        CHECK_EQ(evl_socketpair(SOCK_STREAM, 0, sockets, flags[0], flags[1]), 0);
        os_check_flags(sockets[0], mode & 1);
        os_check_flags(sockets[1], mode >> 1);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(os_send(sockets[i], "hello", 5), 5);
            CHECK_EQ(os_recv(sockets[1 - i], bytes, sizeof(bytes)), 5);
        }
        CHECK_EQ(os_close(sockets[0]), 0);
        CHECK_EQ(os_close(sockets[1]), 0);
    }
}

TEST(misc_pipe) {
    for (int mode = 0; mode < 4; mode++) {
        evl_file fds[2];
        char bytes[8];
        CHECK_EQ(evl_pipe(fds, mode & 1 ? EVL_NONBLOCK_PIPE : 0, mode & 2 ? EVL_NONBLOCK_PIPE : 0),
                 0);
        os_check_file_flags(fds[0], mode & 1);
        os_check_file_flags(fds[1], mode >> 1);
        CHECK_EQ(os_file_write(fds[1], "hello", 5), 5);
        CHECK_EQ(os_file_read(fds[0], bytes, sizeof(bytes)), 5);
        CHECK_EQ(os_file_close(fds[0]), 0);
        CHECK_EQ(os_file_close(fds[1]), 0);
    }
}

TEST(misc_pairs_report_errors_and_leave_nothing) {
    static const char *const names[] = {"socketpair", "pipe", "fcntl", "fionbio"};
    int fds = test_open_fds();
    evl_os_sock_t sockets[2];
    evl_file files[2];
    CHECK_LT(evl_socketpair(-1, 0, sockets, 0, 0), 0);
    for (int i = 0; i < 4; i++)
        for (int mode = 0; mode < 8; mode++)
            for (long nth = 1; nth < 5; nth++) {
                int flags0 = mode & 1 ? EVL_NONBLOCK_PIPE : 0;
                int flags1 = mode & 2 ? EVL_NONBLOCK_PIPE : 0;
                test_fault_set(names[i], nth, 1, EMFILE);
                int result = mode & 4 ? evl_pipe(files, flags0, flags1)
                                      : evl_socketpair(SOCK_STREAM, 0, sockets, flags0, flags1);
                CHECK_EQ(result, test_fault_hits(names[i]) > 0 ? EVL_EMFILE : 0);
                test_fault_clear();
                for (int end = 0; result == 0 && end < 2; end++)
                    CHECK_EQ(mode & 4 ? os_file_close(files[end]) : os_close(sockets[end]), 0);
                CHECK_EQ(test_open_fds(), fds);
            }
}
