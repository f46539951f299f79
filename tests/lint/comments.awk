# Each EVLOOP_API declaration has a comment above it; one comment may cover a run without blank lines.

BEGIN {
    covered = in_comment = ended = count = 0
}

/EVLOOP_H_API_END|[Ii]nterface ends here|API ends here/ {
    ended = 1
    exit
}

/^[ \t]*$/ && !in_comment {
    covered = 0
}

/^\/\*/ && !/^\/\* ====/ {
    covered = 1
}

/^\/\*/ {
    in_comment = 1
}

in_comment && /\*\// {
    in_comment = 0
}

/^EVLOOP_API / {
    count++
    if (!covered)
        print FILENAME ":" FNR ": no comment above " $0
}

END {
    if (!ended)
        print FILENAME ": no line that says where the API ends"
    if (count == 0)
        print FILENAME ": no declarations"
}
