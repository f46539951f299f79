/* cc -O2 -o lookup examples/lookup.c -pthread */

/* lookup - the addresses of the names on the command line, all looked up at the same time.
 *
 *     ./lookup localhost ::1 example.org
 *
 * A resolver can take seconds to answer, and has no way to be asked without waiting: so threads of the
 * pool wait for it. Names that are not ASCII are looked up in their IDNA form. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <ws2tcpip.h>
#else
#include <netdb.h>
#endif

static int failures;

static void check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "lookup: %s: %s\n", what, evl_strerror(result));
    exit(1);
}

static void on_addresses(evl_getaddrinfo_t *req, int status, struct addrinfo *res) {
    const char *name = (const char *)req->data;
    if (status != 0) {
        printf("%s: %s\n", name, evl_strerror(status));
        failures++;
    }
    for (const struct addrinfo *entry = res; entry != NULL; entry = entry->ai_next) {
        char text[64];
        if (evl_ip_name(entry->ai_addr, text, sizeof(text)) == 0)
            printf("%s: %s\n", name, text);
    }
    evl_freeaddrinfo(res);
}

static struct addrinfo stream_hints(void) {
    struct addrinfo hints = {0};
    hints.ai_socktype = SOCK_STREAM; /* else each address comes once for each type of socket */
    return hints;
}

int main(int argc, char **argv) {
    static char local[] = "localhost", loopback[] = "127.0.0.1";
    static char *examples[] = {local, loopback};
    char **names = argc > 1 ? argv + 1 : examples;
    int count = argc > 1 ? argc - 1 : 2;
    evl_getaddrinfo_t *reqs = (evl_getaddrinfo_t *)calloc((size_t)count, sizeof(*reqs));
    struct addrinfo hints = stream_hints();
    evl_loop_t loop;
    check(reqs != NULL ? 0 : EVL_ENOMEM, "calloc");
    check(evl_loop_init(&loop), "evl_loop_init");
    for (int i = 0; i < count; i++) {
        int err;
        reqs[i].data = names[i];
        err = evl_getaddrinfo(&loop, &reqs[i], on_addresses, names[i], NULL, &hints);
        if (err != 0)
            on_addresses(&reqs[i], err, NULL);
    }
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    check(evl_loop_close(&loop), "evl_loop_close");
    evl_library_shutdown();
    free(reqs);
    return failures > 0;
}
