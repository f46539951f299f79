/* The implementation after the system's headers: allowed when _GNU_SOURCE came before them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#if defined(_WIN32)
#include <winsock2.h>
#include <windows.h>
#else
#include <netinet/in.h>
#include <unistd.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVLOOP_IMPLEMENTATION
#include "../../evloop.h"

int main(void) {
    evl_loop_t loop;
    return evl_loop_init(&loop) == 0 && evl_loop_close(&loop) == 0 ? 0 : 1;
}
