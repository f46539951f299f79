# Reads C and prints, for each function body, "function NAME FIRST-LINE LENGTH", and for each
# conditional inside one, "conditional NAME LINE TEXT"; at the end "unbalanced LINE" when the braces
# do not match. Structs, enums, initialisers and extern "C" are no functions.

# The line without comments; strings and characters become "" and ''.
function strip(line,    out, c, two) {
    out = ""
    while (line != "") {
        two = substr(line, 1, 2)
        c = substr(line, 1, 1)
        if (in_comment) {
            if (two == "*/") {
                in_comment = 0
                line = substr(line, 3)
            } else {
                line = substr(line, 2)
            }
        } else if (two == "/*") {
            in_comment = 1
            line = substr(line, 3)
        } else if (two == "//") {
            break
        } else if (match(line, /^"([^"\\]|\\.)*"/)) {
            out = out "\"\""
            line = substr(line, RLENGTH + 1)
        } else if (match(line, /^'([^'\\]|\\.)*'/)) {
            out = out "''"
            line = substr(line, RLENGTH + 1)
        } else {
            out = out c
            line = substr(line, 2)
        }
    }
    return out
}

# What stands before the brace that opens at depth 0 says what the braces hold.
function opens(text,    name) {
    if (text ~ /extern *"" *$/)
        return "linkage"
    if (text !~ /\)[ \t]*$/)
        return "data"
    name = text
    sub(/[ \t]*\(.*/, "", name)
    if (name ~ /__attribute__$/) { # the name stands behind the attribute
        name = text
        sub(/.*\)\)/, "", name)
        sub(/[ \t]*\(.*/, "", name)
    }
    sub(/.*[ \t*]/, "", name)
    return name != "" ? name : "function"
}

function open_brace() {
    if (depth == linkages) {
        kind = opens(pending)
        start = FNR
        if (kind == "linkage")
            linkages++
    }
    depth++
    pending = ""
}

function close_brace() {
    depth--
    if (depth < linkages)
        linkages = depth
    if (depth == linkages && kind != "data" && kind != "linkage" && kind != "")
        print "function " kind " " start " " (FNR - start + 1)
    if (depth == linkages)
        kind = ""
    pending = ""
}

BEGIN {
    in_comment = in_directive = depth = linkages = 0
}

{
    text = strip($0)
}

in_directive || text ~ /^[ \t]*#/ {
    if (!in_directive && depth > linkages && kind != "data" && text ~ /^[ \t]*#[ \t]*(if|el|endif)/)
        print "conditional " kind " " FNR " " $0
    in_directive = text ~ /\\[ \t]*$/
    next
}

{
    count = length(text)
    for (i = 1; i <= count; i++) {
        c = substr(text, i, 1)
        if (c == "{")
            open_brace()
        else if (c == "}")
            close_brace()
        else if (c == ";" && depth == linkages)
            pending = ""
        else
            pending = pending c
    }
    pending = pending " "
}

END {
    if (depth != 0)
        print "unbalanced " FNR
}
