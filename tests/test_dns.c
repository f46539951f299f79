/* Name lookup: evl_getaddrinfo, evl_getnameinfo, and the IDNA form of names. */
#include "net.h"

#if !defined(EVLOOP_NO_DNS)

#if !defined(_WIN32)
#include <netdb.h>
#endif

/* A generator of its own, so that a failure comes again. */
static uint32_t random_next(uint32_t bound) {
    static uint64_t state = 1;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % bound;
}

static evl_loop_t loop;
static int calls;
static int last_status;
static struct addrinfo *last_result;

static void open_loop(void) {
    calls = 0;
    last_result = NULL;
    CHECK_EQ(evl_loop_init(&loop), 0);
}

static void finish(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_loop_close(&loop), 0);
    evl_library_shutdown(); /* the default pool's threads and memory */
}

static void on_address(evl_getaddrinfo_t *req, int status, struct addrinfo *res) {
    calls++;
    last_status = status;
    last_result = res;
    CHECK(req->addrinfo == res);
    CHECK(req->loop == &loop);
    CHECK_EQ(req->type, EVL_GETADDRINFO);
}

static void never_address(evl_getaddrinfo_t *req, int status, struct addrinfo *res) {
    (void)req;
    (void)status;
    (void)res;
    test_fail(__FILE__, __LINE__, "this callback of an address must not run");
}

static struct addrinfo numeric_hints(int family) {
    struct addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST;
    return hints;
}

static void check_ip4(const struct addrinfo *res, const char *ip, int port) {
    struct sockaddr_in expected;
    const struct sockaddr_in *addr;
    CHECK(res != NULL);
    CHECK_EQ(res->ai_family, AF_INET);
    CHECK_EQ(res->ai_addrlen, sizeof(expected));
    CHECK_EQ(evl_ip4_addr(ip, port, &expected), 0);
    addr = (const struct sockaddr_in *)(const void *)res->ai_addr;
    CHECK_MEM(&addr->sin_addr, &expected.sin_addr, sizeof(expected.sin_addr));
    CHECK_EQ(addr->sin_port, expected.sin_port);
}

/* ---- Addresses of names ---------------------------------------------------------------------- */

TEST(dns_address_of_numbers) {
    evl_getaddrinfo_t req;
    struct addrinfo hints = numeric_hints(AF_INET);
    char host[] = "127.1.2.3", service[] = "8080";
    open_loop();
    CHECK_EQ(evl_getaddrinfo(&loop, &req, on_address, host, service, &hints), 0);
    CHECK_EQ(calls, 0);
    memset(host, 'x', sizeof(host) - 1); /* the arguments were copied */
    memset(service, 'x', sizeof(service) - 1);
    memset(&hints, 0xff, sizeof(hints));
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    finish();
    CHECK_EQ(calls, 1);
    CHECK_EQ(last_status, 0);
    check_ip4(last_result, "127.1.2.3", 8080);
    evl_freeaddrinfo(last_result);
    evl_freeaddrinfo(NULL);
}

TEST(dns_address_at_once) {
    evl_getaddrinfo_t req;
    struct addrinfo hints = numeric_hints(AF_INET6);
    const struct sockaddr_in6 *addr;
    struct sockaddr_in6 expected;
    CHECK_EQ(evl_getaddrinfo(NULL, &req, NULL, "::1", "80", &hints), 0);
    CHECK(req.addrinfo != NULL);
    CHECK_EQ(req.addrinfo->ai_family, AF_INET6);
    addr = (const struct sockaddr_in6 *)(const void *)req.addrinfo->ai_addr;
    CHECK_EQ(evl_ip6_addr("::1", 80, &expected), 0);
    CHECK_MEM(&addr->sin6_addr, &expected.sin6_addr, sizeof(expected.sin6_addr));
    CHECK_EQ(addr->sin6_port, expected.sin6_port);
    evl_freeaddrinfo(req.addrinfo);
}

TEST(dns_address_of_the_local_host) {
    evl_getaddrinfo_t req;
    const struct addrinfo *entry;
    int found = 0;
    open_loop();
    CHECK_EQ(evl_getaddrinfo(&loop, &req, on_address, "localhost", NULL, NULL), 0);
    finish();
    CHECK_EQ(last_status, 0);
    for (entry = last_result; entry != NULL; entry = entry->ai_next)
        found += entry->ai_family == AF_INET || entry->ai_family == AF_INET6;
    CHECK_GE(found, 1);
    evl_freeaddrinfo(last_result);
}

TEST(dns_address_of_a_service_alone) {
    evl_getaddrinfo_t req;
    struct addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    open_loop();
    CHECK_EQ(evl_getaddrinfo(&loop, &req, on_address, NULL, "443", &hints), 0);
    finish();
    CHECK_EQ(last_status, 0);
    check_ip4(last_result, "0.0.0.0", 443);
    evl_freeaddrinfo(last_result);
}

TEST(dns_address_errors) {
    evl_getaddrinfo_t req;
    struct addrinfo hints = numeric_hints(AF_INET);
    open_loop();
    CHECK_EQ(evl_getaddrinfo(&loop, &req, never_address, NULL, NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_getaddrinfo(NULL, &req, never_address, "::1", NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_getaddrinfo(&loop, NULL, never_address, "::1", NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_getaddrinfo(&loop, &req, never_address, "\xff.org", NULL, NULL), EVL_EINVAL);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_getaddrinfo(&loop, &req, on_address, "no number", NULL, &hints), 0);
    finish();
    CHECK_EQ(calls, 1);
    CHECK_EQ(last_status, EVL_EAI_NONAME);
    CHECK(last_result == NULL);
    CHECK_EQ(evl_getaddrinfo(NULL, &req, NULL, "no number", NULL, &hints), EVL_EAI_NONAME);
}

TEST(dns_address_without_memory) {
    evl_getaddrinfo_t req;
    struct addrinfo hints = numeric_hints(AF_INET);
    open_loop();
    CHECK_EQ(evl_getaddrinfo(&loop, &req, on_address, "1.2.3.4", NULL, &hints), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    evl_freeaddrinfo(last_result); /* from here on the pool has what it needs */
    test_alloc_fail(1, 1);
    CHECK_EQ(evl_getaddrinfo(&loop, &req, never_address, "1.2.3.4", NULL, &hints), EVL_ENOMEM);
    test_alloc_fail(0, 0);
    finish();
    CHECK_EQ(calls, 1);
}

/* Half of the threads do what is slow, so that the other half is free for the rest. */
static evl_getaddrinfo_t many[64];
static int many_left;

static void on_one_of_many(evl_getaddrinfo_t *req, int status, struct addrinfo *res) {
    CHECK_EQ(status, 0);
    check_ip4(res, "10.0.0.1", 0);
    evl_freeaddrinfo(res);
    CHECK(req >= many && req < many + 64);
    many_left--;
}

TEST(dns_addresses_of_many) {
    struct addrinfo hints = numeric_hints(AF_INET);
    open_loop();
    many_left = 64;
    for (int i = 0; i < 64; i++)
        CHECK_EQ(evl_getaddrinfo(&loop, &many[i], on_one_of_many, "10.0.0.1", NULL, &hints), 0);
    finish();
    CHECK_EQ(many_left, 0);
}

static void on_cancelled(evl_getaddrinfo_t *req, int status, struct addrinfo *res) {
    (void)req;
    CHECK(res == NULL || status == 0);
    CHECK(status == 0 || status == EVL_EAI_CANCELED);
    evl_freeaddrinfo(res);
    many_left--;
}

TEST(dns_cancel) {
    struct addrinfo hints = numeric_hints(AF_INET);
    int cancelled = 0;
    open_loop();
    many_left = 64;
    for (int i = 0; i < 64; i++)
        CHECK_EQ(evl_getaddrinfo(&loop, &many[i], on_cancelled, "10.0.0.1", NULL, &hints), 0);
    for (int i = 63; i >= 0; i--) {
        int err = evl_cancel((evl_req_t *)&many[i]);
        CHECK(err == 0 || err == EVL_EBUSY);
        cancelled += err == 0;
    }
    finish();
    CHECK_EQ(many_left, 0);
    CHECK_GE(cancelled, 0);
}

/* ---- Names of addresses ---------------------------------------------------------------------- */

static char last_host[64], last_service[64];

static void on_name(evl_getnameinfo_t *req, int status, const char *host, const char *service) {
    calls++;
    last_status = status;
    CHECK(req->loop == &loop);
    CHECK_EQ(req->type, EVL_GETNAMEINFO);
    CHECK_EQ(host != NULL, status == 0);
    CHECK_EQ(service != NULL, status == 0);
    if (status != 0)
        return;
    snprintf(last_host, sizeof(last_host), "%s", host);
    snprintf(last_service, sizeof(last_service), "%s", service);
}

TEST(dns_name_of_an_address) {
    evl_getnameinfo_t req;
    struct sockaddr_in addr;
    open_loop();
    CHECK_EQ(evl_ip4_addr("127.0.0.1", 4711, &addr), 0);
    CHECK_EQ(evl_getnameinfo(&loop, &req, on_name, (const struct sockaddr *)&addr,
                             NI_NUMERICHOST | NI_NUMERICSERV),
             0);
    memset(&addr, 0xff, sizeof(addr));
    CHECK_EQ(calls, 0);
    finish();
    CHECK_EQ(calls, 1);
    CHECK_EQ(last_status, 0);
    CHECK_STR(last_host, "127.0.0.1");
    CHECK_STR(last_service, "4711");
}

TEST(dns_name_at_once) {
    evl_getnameinfo_t req;
    struct sockaddr_in6 addr;
    CHECK_EQ(evl_ip6_addr("::1", 25, &addr), 0);
    CHECK_EQ(evl_getnameinfo(NULL, &req, NULL, (const struct sockaddr *)&addr,
                             NI_NUMERICHOST | NI_NUMERICSERV),
             0);
    CHECK_STR(req.host, "::1");
    CHECK_STR(req.service, "25");
}

TEST(dns_name_errors) {
    evl_getnameinfo_t req;
    struct sockaddr addr;
    memset(&addr, 0, sizeof(addr));
    addr.sa_family = AF_UNSPEC;
    open_loop();
    CHECK_EQ(evl_getnameinfo(&loop, &req, on_name, &addr, 0), EVL_EINVAL);
    CHECK_EQ(evl_getnameinfo(&loop, &req, on_name, NULL, 0), EVL_EINVAL);
    finish();
    CHECK_EQ(calls, 0);
}

/* ---- IDNA ------------------------------------------------------------------------------------ */

static void check_idna(const char *name, const char *expected) {
    char ascii[256];
    CHECK_EQ(test_idna(name, ascii), 0);
    CHECK_STR(ascii, expected);
}

TEST(dns_idna_of_ascii_is_itself) {
    check_idna("", "");
    check_idna("a", "a");
    check_idna("www.example.com", "www.example.com");
    check_idna("www.example.com.", "www.example.com.");
    check_idna("UPPER_case-1", "UPPER_case-1");
    check_idna("..", "..");
}

/* From RFC 3492, 7.1, and from everyday. */
TEST(dns_idna_of_other_scripts) {
    check_idna("b\xc3\xbc"
               "cher.example",
               "xn--bcher-kva.example");
    check_idna("m\xc3\xbcnchen.de.", "xn--mnchen-3ya.de.");
    check_idna("espa\xc3\xb1ol", "xn--espaol-zwa");
    check_idna("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e.jp", "xn--wgv71a119e.jp");
    check_idna("\xe4\xbb\x96\xe4\xbb\xac\xe4\xb8\xba\xe4\xbb\x80\xe4\xb9\x88"
               "\xe4\xb8\x8d\xe8\xaf\xb4\xe4\xb8\xad\xe6\x96\x87",
               "xn--ihqwcrb4cv8a8dqg056pqjye");
    check_idna("\xd9\x84\xd9\x8a\xd9\x87\xd9\x85\xd8\xa7\xd8\xa8\xd8\xaa\xd9\x83\xd9\x84\xd9\x85"
               "\xd9\x88\xd8\xb4\xd8\xb9\xd8\xb1\xd8\xa8\xd9\x8a\xd8\x9f",
               "xn--egbpdaj6bu4bxfgehfvwxn");
    check_idna("\xf0\x9f\x92\xa9.la", "xn--ls8h.la");
}

TEST(dns_idna_knows_other_dots) {
    check_idna("a\xe3\x80\x82"
               "b\xef\xbc\x8e"
               "c\xef\xbd\xa1"
               "d",
               "a.b.c.d");
}

TEST(dns_idna_refuses_what_is_no_utf8) {
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe2\x82",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "a\xff"};
    char ascii[256];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_EQ(test_idna(bad[i], ascii), EVL_EINVAL);
}

/* Names of all lengths are either taken whole or refused. */
TEST(dns_idna_never_cuts) {
    static char name[70000];
    char ascii[256];
    for (size_t length = 1; length <= 600; length++) {
        int err;
        for (size_t i = 0; i < length; i++)
            name[i] = i % 64 == 63 ? '.' : 'a';
        name[length] = '\0';
        err = test_idna(name, ascii);
        if (length <= 253 || (length == 254 && name[253] == '.')) {
            CHECK_EQ(err, 0);
            CHECK_STR(ascii, name);
        } else {
            CHECK_EQ(err, EVL_ENAMETOOLONG);
        }
    }
    memset(name, 'a', sizeof(name));
    name[64] = '\0';
    CHECK_EQ(test_idna(name, ascii), EVL_ENAMETOOLONG);
    name[63] = '\0';
    CHECK_EQ(test_idna(name, ascii), 0);
    memset(name, 'a', sizeof(name));
    name[65536] = '\0';
    CHECK_EQ(test_idna(name, ascii), EVL_ENAMETOOLONG);
    memset(name, '.', 1000);
    name[1000] = '\0';
    CHECK_EQ(test_idna(name, ascii), EVL_ENAMETOOLONG);
}

TEST(dns_idna_of_random_text) {
    for (int i = 0; i < 20000; i++) {
        char name[80], ascii[256];
        uint32_t length = random_next(sizeof(name));
        for (uint32_t j = 0; j < length; j++)
            name[j] = (char)(1 + random_next(255));
        name[length] = '\0';
        memset(ascii, 'x', sizeof(ascii));
        if (test_idna(name, ascii) != 0)
            continue;
        CHECK(memchr(ascii, '\0', sizeof(ascii)) != NULL);
        for (size_t j = 0; ascii[j] != '\0'; j++)
            CHECK(!(ascii[j] & 0x80));
    }
}

#endif /* !EVLOOP_NO_DNS */
