#!/bin/sh
# Builds examples, into build/examples/, by the very command that the first comment of each gives.
#
#     sh tests/examples.sh [examples/hello.c ...]     default: all
#     sh tests/examples.sh --run                      builds all, and runs each to its end
#     sh tests/examples.sh --wine                     runs what `make windows` has built
#
# The command is meant for the root of the repository. It is run in build/examples/ instead, where a
# link named examples makes it mean the same, so that its output lands there.

cd "$(dirname "$0")/.." || exit 2
out=build/examples
mkdir -p $out
[ -e $out/examples ] || ln -s ../../examples $out/examples

# The first line of the file, when it is a comment that starts with the C compiler's name.
command_of() { # FILE
    sed -n -e 's|^/\* \(cc .*\) \*/$|\1|p' -e 1q "$1"
}

build() { # FILE
    name=$(basename "$1" .c)
    command=$(command_of "$1")
    if [ -z "$command" ]; then
        echo "$1: the first line is not a comment with the command that builds it" >&2
        return 1
    fi
    echo "$command"
    if ! (cd $out && rm -f "$name" && sh -c "$command" && [ -x "$name" ]); then
        echo "$1: the command failed, or did not make $name" >&2
        return 1
    fi
}

# A server ends by itself when it is asked for a demonstration.
argument_of() { # FILE
    case $(sed 40q "$1") in
    *--demo*) echo --demo ;;
    esac
}

# Three files of 16, 200,000 and no bytes; an empty directory; a link, which wine takes for the directory
# that it leads to.
make_tree() { # DIRECTORY
    rm -rf "$1"
    mkdir -p "$1/some/where" "$1/empty"
    echo 'hello, checksum' >"$1/hello"
    awk 'BEGIN { for (i = 0; i < 25000; i++) printf "%7d\n", i }' >"$1/some/where/numbers"
    : >"$1/some/nothing"
    [ "$wine" ] || ln -s .. "$1/some/link"
}

try_cat() { # COMMAND ...
    make_tree $out/tree
    set -- "$@" $out/tree/hello $out/tree/some/where/numbers
    "$@" $out/tree/some/nothing - $out/tree/hello <$out/tree/hello >$out/cat.out &&
        cat $out/tree/hello $out/tree/some/where/numbers $out/tree/hello $out/tree/hello |
        cmp - $out/cat.out &&
        ! "$@" $out/tree/missing >$out/cat.out
}

try_checksum() { # COMMAND ...
    make_tree $out/tree
    "$@" --stat $out/tree >$out/checksum.out || return 1
    cat $out/checksum.out
    for line in 'files 3' 'directories 4' 'bytes 200016' 'checksum d3d741793024f177' 'unreadable 0' \
        'changed 0'; do
        tr -s ' \r' ' ' <$out/checksum.out | grep -q "^$line *\$" || return 1
    done
    ! "$@" $out/tree/missing
}

try_jobs() { # COMMAND ...
    "$@" 2 >$out/jobs.out && cat $out/jobs.out && grep -q '^the same as without' $out/jobs.out
}

# Runs an example; what some of them print is checked.
try() { # FILE COMMAND ...
    file=$1 name=$(basename "$1" .c)
    shift
    case $name in
    cat | checksum | jobs) try_$name "$@" ;;
    *) "$@" $(argument_of "$file") ;;
    esac
}

run() { # FILE
    name=$(basename "$1" .c) wine=
    build "$1" >$out/$name.log 2>&1 && try "$1" timeout 30 $out/$name >>$out/$name.log 2>&1 </dev/null
}

run_wine() { # FILE
    name=$(basename "$1" .c) wine=yes
    WINEDEBUG=-all try "$1" timeout 60 wine build/windows/$name.exe >$out/$name.log 2>&1 </dev/null
}

build_all() {
    status=0
    for file in "$@"; do
        build "$file" || status=1
    done
    return $status
}

run_all() { # by run or run_wine
    passed=0 failed=0
    for file in examples/*.c; do
        $1 "$file"
        status=$?
        if [ $status -eq 0 ]; then
            passed=$((passed + 1))
            echo "ok $((passed + failed)) - $file"
        else
            failed=$((failed + 1))
            echo "not ok $((passed + failed)) - $file (status $status)"
            sed 's/^/# /' $out/$name.log
        fi
    done
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}

if [ "${1:-}" = --run ]; then
    run_all run
elif [ "${1:-}" = --wine ]; then
    run_all run_wine
elif [ $# -gt 0 ]; then
    build_all "$@"
else
    build_all examples/*.c
fi
