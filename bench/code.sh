#!/bin/sh
# How large is a small program? The code of a stripped echo server, bench/server.c: what `size` calls text,
# in KB of 1024 bytes. Each server echoes some megabytes before its size counts.
#
#     sh bench/code.sh           (run.sh does it, too)
#
# From the environment: CC (cc), LIBUV_DIR (libuv's sources are then built anew, with the same flags),
# LIBRARIES_FOUND ("evloop libuv"). Prints lines "question library round case unit value", with tabs.

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
LIBUV_DIR=${LIBUV_DIR:-}
out=build/bench/code
small="-Os -ffunction-sections -fdata-sections"
mkdir -p $out
. bench/libuv.sh

say() {
    echo "code: $*" >&2
}

# Keeps an archive of libuv with small code until the flags or the sources change.
libuv_small() { # ARCHIVE FLAG...
    archive=$1
    shift
    command="$CC $small $* $LIBUV_DIR"
    [ "$(cat "$archive.command" 2>/dev/null)" = "$command" ] &&
        [ -z "$(find "$LIBUV_DIR/src" "$LIBUV_DIR/include" bench/libuv.sh -newer "$archive")" ] && return
    rm -f "$archive" "$archive.command"
    libuv_compile $out/objects $small "$@" && ar rcs "$archive" $out/objects/*.o && echo "$command" >"$archive.command"
}

# Prints the path of the first of these static libraries that the system has, and says what it is.
system_archive() { # NAME...
    for name in "$@"; do
        archive=$($CC -print-file-name="$name")
        [ "$archive" != "$name" ] || continue
        say "$name is the system's, built for speed and not in sections: more of it stays than with the others' flags"
        echo "$archive"
        return
    done
    say "there is no $1: left out"
    return 1
}

link_server() { # PROGRAM FLAG...
    program=$1
    shift
    $CC -std=gnu99 $small -Wl,--gc-sections -o "$program" bench/server.c "$@" -pthread && strip "$program"
}

report() { # LIBRARY CASE PROGRAM
    $out/check "$3" || {
        say "the server of $1 does not echo"
        exit 1
    }
    size "$3" | awk -v library="$1" -v name="$2" \
        'NR == 2 { printf "code\t%s\t1\t%s\tKB\t%.2f\n", library, name, $1 / 1024
                   printf "code\t%s\t1\t%s, and data\tKB\t%.2f\n", library, name, ($1 + $2) / 1024 }'
}

# Builds the server without and with the library's assertions.
measure_both() { # LIBRARY, FLAGS without, FLAGS with
    link_server $out/$1 $2 && report $1 "echo server" $out/$1 || exit 1
    link_server $out/$1-asserts $3 && report $1 "echo server, assertions on" $out/$1-asserts || exit 1
}

measure_libuv() {
    if [ -n "$LIBUV_DIR" ]; then
        libuv_small $out/libuv.a -DNDEBUG && libuv_small $out/libuv-asserts.a || exit 1
        flags="-DBENCH_LIBUV -I$LIBUV_DIR/include"
        measure_both libuv "$flags $out/libuv.a -ldl -lrt" "$flags $out/libuv-asserts.a -ldl -lrt"
        return
    fi
    # Such an archive has its assertions as a rule.
    archive=$(system_archive libuv.a libuv_a.a) || return 0
    link_server $out/libuv -DBENCH_LIBUV $(pkg-config --cflags libuv) $archive -ldl -lrt || exit 1
    report libuv "echo server, assertions on" $out/libuv
}

measure_libev() {
    archive=$(system_archive libev.a) || return 0
    link_server $out/libev -DBENCH_LIBEV -fno-strict-aliasing $archive -lm || exit 1
    report libev "echo server" $out/libev
}

measure_libevent() {
    archive=$(system_archive libevent_core.a) || return 0
    link_server $out/libevent -DBENCH_LIBEVENT $archive || exit 1
    report libevent "echo server" $out/libevent
}

$CC -std=gnu99 -O2 -DBENCH_BARE -o $out/check bench/server.c || exit 1
for library in ${LIBRARIES_FOUND:-evloop libuv}; do
    case $library in
    evloop) measure_both evloop -DBENCH_EVLOOP "-DBENCH_EVLOOP -DEVLOOP_DEBUG_ASSERT" ;;
    libuv) measure_libuv ;;
    libev) measure_libev ;;
    libevent) measure_libevent ;;
    esac
done
