/* Prints the size of every public type, which no configuration macro may change. */
#ifndef EVLOOP_STATIC
#define EVLOOP_IMPLEMENTATION
#endif
#include "../../evloop.h"

#include <stdio.h>

#define LAYOUT(type) printf("%s %u\n", #type, (unsigned)sizeof(type))

int main(void) {
    LAYOUT(evl_loop_t);
    LAYOUT(evl_handle_t);
    LAYOUT(evl_req_t);
    LAYOUT(evl_timer_t);
    LAYOUT(evl_idle_t);
    LAYOUT(evl_prepare_t);
    LAYOUT(evl_check_t);
    LAYOUT(evl_async_t);
    LAYOUT(evl_poll_t);
    LAYOUT(evl_buf_t);
    LAYOUT(evl_metrics_t);
    LAYOUT(evl_histogram_t);
    LAYOUT(evl_pool_t);
    LAYOUT(evl_pool_stats_t);
    LAYOUT(evl_work_t);
    LAYOUT(evl_random_t);
    LAYOUT(evl_fs_t);
    LAYOUT(evl_stat_t);
    LAYOUT(evl_statfs_t);
    LAYOUT(evl_dir_t);
    LAYOUT(evl_dirent_t);
    LAYOUT(evl_getaddrinfo_t);
    LAYOUT(evl_getnameinfo_t);
#ifndef EVLOOP_NO_NET
    LAYOUT(evl_stream_t);
    LAYOUT(evl_tcp_t);
    LAYOUT(evl_connect_t);
    LAYOUT(evl_write_t);
    LAYOUT(evl_shutdown_t);
    LAYOUT(evl_pump_t);
#endif
#ifndef EVLOOP_NO_THREADS
    LAYOUT(evl_mutex_t);
    LAYOUT(evl_rwlock_t);
    LAYOUT(evl_sem_t);
    LAYOUT(evl_barrier_t);
#endif
    return 0;
}
