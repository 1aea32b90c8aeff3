# A JSON document as lines "path value", for scripts that want single figures of it: path is the keys and the places in arrays,
# counted from 0, joined by dots, as in passes.2.ms. Values are as they are written, strings in quotes.
#
#   awk -f benchmarks/figures.awk bench.json
function path(  i, text) {
    for (i = 1; i <= depth; i++) text = text (i > 1 ? "." : "") name[i]
    return text
}
function value_ends() { if (array[depth]) name[depth]++ }
{
    line = $0
    while (match(line, /"([^"\\]|\\.)*"|[^][{}",: \t]+|[][{},:]/)) {
        token = substr(line, RSTART, RLENGTH)
        line = substr(line, RSTART + RLENGTH)
        if (token == "{" || token == "[") {
            depth++
            array[depth] = token == "["
            name[depth] = 0
            key_next = !array[depth]
        } else if (token == "}" || token == "]") {
            depth--
            value_ends()
        } else if (token == ",") key_next = !array[depth]
        else if (token == ":") key_next = 0
        else if (key_next) name[depth] = substr(token, 2, length(token) - 2)
        else {
            print path(), token
            value_ends()
        }
    }
}
