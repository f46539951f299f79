/* Only declares: nothing is defined, and every public type is complete. */
#include "../../evloop.h"

size_t declarations_size(void);

size_t declarations_size(void) {
    size_t size = sizeof(evl_loop_t) + sizeof(evl_handle_t) + sizeof(evl_req_t) +
                  sizeof(evl_timer_t) + sizeof(evl_idle_t) + sizeof(evl_prepare_t) +
                  sizeof(evl_check_t) + sizeof(evl_async_t) + sizeof(evl_poll_t) +
                  sizeof(evl_buf_t);
#ifndef EVLOOP_NO_NET
    size += sizeof(evl_stream_t) + sizeof(evl_tcp_t) + sizeof(evl_connect_t) + sizeof(evl_write_t) +
            sizeof(evl_shutdown_t) + sizeof(evl_pump_t);
#endif
    return size;
}
