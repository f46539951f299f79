# For code.sh and compile.sh: building libuv's sources, by LIBUV_DIR, with flags of one's own.

# The sources that libuv's own build takes on Linux, of those that this version has; the last line is of
# versions before 1.45.
libuv_sources() {
    for name in async core dl fs getaddrinfo getnameinfo linux loop loop-watcher pipe poll process \
        procfs-exepath proctitle random-devurandom random-getrandom random-sysctl-linux signal stream \
        tcp thread tty udp \
        epoll linux-core linux-inotify linux-syscalls; do
        [ -f "$LIBUV_DIR/src/unix/$name.c" ] && echo "$LIBUV_DIR/src/unix/$name.c"
    done
    ls "$LIBUV_DIR"/src/*.c
}

# Compiles them one after another into a directory, with the definitions of libuv's own build.
libuv_compile() { # DIRECTORY FLAG...
    objects=$1
    shift
    mkdir -p "$objects"
    rm -f "$objects"/*.o
    for source in $(libuv_sources); do
        $CC -std=gnu11 "$@" -fvisibility=hidden -fno-strict-aliasing -D_GNU_SOURCE \
            -D_FILE_OFFSET_BITS=64 -D_LARGEFILE_SOURCE -I"$LIBUV_DIR/include" -I"$LIBUV_DIR/src" \
            -c "$source" -o "$objects/$(basename "$source" .c).o" || return 1
    done
}
