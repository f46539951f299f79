# Reads the output of `cc -E -dD HEADER` and prints the macros that the header itself, not those that
# it includes, leaves defined under a name that is neither ours nor allowed.

/^# [0-9]+ "/ {
    file = $3
    next
}

file != "\"" header "\"" {
    next
}

/^#define / {
    name = $2
    sub(/\(.*/, "", name)
    if (name !~ /^(EVL|EVLI|EVLOOP)_/ && name !~ allowed)
        defined[name] = 1
}

/^#undef / {
    delete defined[$2]
}

END {
    for (name in defined)
        print "the macro " name " lacks the prefix"
}
