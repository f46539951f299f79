# The contents in the head comment list the sections of the file: the same names in the same order.

BEGIN {
    in_head = 1
    listed = found = 0
}

in_head && /^ *- \[SECTION\] / {
    sub(/^ *- \[SECTION\] /, "")
    contents[++listed] = $0
}

in_head && /\*\// {
    in_head = 0
}

/^\/\* ==== \[SECTION\] .* ==== \*\/$/ {
    name = $0
    sub(/^\/\* ==== \[SECTION\] /, "", name)
    sub(/ ==== \*\/$/, "", name)
    if (name in seen)
        print FILENAME ":" FNR ": a second section [" name "]"
    seen[name] = 1
    markers[++found] = name
    lines[found] = FNR
}

/\[SECTION\]/ && !in_head && !/^\/\* ==== \[SECTION\] [A-Za-z].* ==== \*\/$/ {
    print FILENAME ":" FNR ": not of the form /* ==== [SECTION] Name ==== */"
}

END {
    if (listed == 0)
        print FILENAME ": no contents in the head comment"
    for (i = 1; i <= (listed > found ? listed : found); i++) {
        if (contents[i] != markers[i]) {
            print FILENAME ":" lines[i] ": section " i " is [" markers[i] "], the contents say [" contents[i] "]"
            exit
        }
    }
}
