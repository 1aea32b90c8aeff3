#!/bin/sh
# Conversations through a pipe and, where there is script(1), on a terminal; and generate --session. Every reply must be
# what the same text gives in another way: in one go, through session files, after /reset.
#
#   FORERUN=build/forerun sh tests/test_chat.sh JSON_CHECK
set -eu
json_check=$1
[ -x "$FORERUN" ] && [ -x "$json_check" ] || { echo "there is no program at $FORERUN, or no $json_check"; exit 1; }
golden=$(cd "$(dirname "$0")" && pwd)/golden
model=$golden/pico-mtp-s1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# chat EXIT INPUT OPTIONS...: INPUT is printf's; stdout is $work/out, stderr $work/err.
chat() {
    expected=$1 input=$2
    shift 2
    code=0
    # shellcheck disable=SC2059
    printf "$input" | "$FORERUN" chat -t 1 "$@" >"$work/out" 2>"$work/err" || code=$?
    [ "$code" -eq "$expected" ] || { fail "chat $*: exit $code, expected $expected"; cat "$work/err"; }
}
generate() { "$FORERUN" generate -m "$model" -t 1 --ignore-eos --json -q "$@" >"$work/json" || fail "generate $*: exit $?"; }
# The text as it is streamed: a document's text may hold a NUL, which the shell cannot.
text() { "$FORERUN" generate -m "$model" -t 1 --ignore-eos -q "$@" || fail "generate $*: exit $?"; }
holds() { "$json_check" "$work/json" "$@" || fail "the document is not as it should be"; }
value() { "$json_check" -p "$work/json" "$1"; }
says() { grep -q -e "$1" "$work/err" || { fail "stderr does not say: $1"; cat "$work/err"; }; }
prints() { grep -q -a -e "$1" "$work/out" || { fail "stdout does not say: $1"; cat "$work/out"; }; }
keep() { cp "$work/out" "$work/$1"; }
same() { cmp -s "$work/$1" "$work/$2" || fail "$3"; }

# ---- A model without a chat template: one text, continued -------------------------------------------------------------

plain="-m $model -n 20 --ignore-eos"
# shellcheck disable=SC2086 # words are meant to split, here and below
chat 0 'Once upon a time\n' $plain
says 'no chat template'
keep first
text -p 'Once upon a time' -n 20 >"$work/text"
generate -p 'Once upon a time' -n 20 --session "$work/s"
holds session.loaded_tokens=0 session.path="$work/s" tokens#20
said=$(value session.tokens)
same first text 'a reply is not what generate gives'

# A stop string ends a reply, and the conversation goes on. (A byte that cannot be in the middle of a character.)
letter=$(tr -d '\n' <"$work/first" | tr -c -d '[:alpha:]' | head -c 1)
if [ -n "$letter" ]; then
    # shellcheck disable=SC2086
    chat 0 'Once upon a time\n/stats\nand then\n' $plain --stop "$letter"
    prints '^context     '
    sed "/^context /,\$d" "$work/out" >"$work/stopped"
    { sed "/$letter/q" "$work/first" | sed "\$s/$letter.*//" | head -c -1; echo; } >"$work/expected"
    same stopped expected 'a reply does not end before a stop string'
fi

# A stop string inside a cycle, whose drafts are all accepted: what is counted ends there, and what is kept is what a conversation
# without drafts keeps.
for stop in d dd ddddd dddddddd ddddddddd; do
    letters="-m $model -n 40 --ignore-eos --logit-bias 70=80 --stop $stop" end=${#stop}
    chat 0 "Once upon a time\n/save $work/off\n" $letters --mtp off
    chat 0 "Once upon a time\n/stats\n/save $work/on\n" $letters --mtp on --depth 7
    accepted=$((end - 1 - (end + 6) / 8))
    if [ "$accepted" -gt 0 ]; then
        prints "^drafts  *$accepted drafted, $accepted accepted (100.0 %)"
    else
        prints '^drafts  *none'
    fi
    chat 0 "/load $work/on\n/save $work/on\n" $letters --mtp off
    same on off "a reply that ended with '$stop' leaves more behind with drafts"
done

# Two turns: as one process, as generate with a session file, and as two conversations with a file between them.
for settings in '' '--temperature 0.8 --seed 5' '--temperature 0.8 --seed 6 --mtp on --depth 3' '--mtp off --kv f32'; do
    rm -f "$work/s1" "$work/s2"
    chat 0 'Once upon a time\nand then\n' $plain $settings
    keep both
    text -p 'Once upon a time' -n 20 $settings --session "$work/s1" >"$work/text"
    text -p 'and then' -n 20 $settings --session "$work/s1" >>"$work/text"
    generate -n 1 $settings --session "$work/s1"
    holds session.loaded_tokens'>'$((said + 20)) prompt_tokens#0
    same both text "generate --session is not a conversation with $settings"
    chat 0 "Once upon a time\n/save $work/s2\n/quit\nnot read\n" $plain $settings
    keep turns
    case $settings in *seed*) other='--seed 99' ;; *) other= ;; esac
    chat 0 "/load $work/s2 \nand then\n" $plain $settings $other
    says "^loaded: $work/s2, $said tokens; "
    cat "$work/out" >>"$work/turns"
    same both turns "a saved conversation goes on otherwise with $settings"
    chat 0 'Once upon a time\n' $plain $settings
    cat "$work/out" "$work/both" >"$work/expected"
    chat 0 'Once upon a time\n/reset\nOnce upon a time\n\n\nand then\n' $plain $settings
    keep turns
    same expected turns "/reset leaves something behind with $settings"
done

# generate --session without a prompt continues as if it had not stopped, wherever that was.
for settings in '--mtp on --depth 3' '--temperature 0.7 --seed 3' '--mtp off --temperature 0.7 --kv f32'; do
    generate -p 'Once upon a time' -n 31 $settings
    value tokens | tr -d '[]' >"$work/straight"
    for stop in 1 2 8 13 30; do
        rm -f "$work/s1"
        generate -p 'Once upon a time' -n "$stop" $settings --session "$work/s1"
        first=$(value tokens | tr -d '[]')
        generate -n $((31 - stop)) $settings --session "$work/s1"
        holds 'prompt_tokens#0'
        echo "$first,$(value tokens | tr -d '[]')" >"$work/parts"
        same straight parts "generate --session does not go on after $stop tokens with $settings"
    done
done

# An end-of-sequence token ends a reply, and tokens that the last cycle made after it are dropped.
ids=$("$json_check" -p "$model/golden/L7-f32.json" tokens | tr -d '[]')
third=$("$json_check" -p "$model/golden/L7-f32.json" greedy.2)
mkdir "$work/stops"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/stops/"; done
for file in config.json generation_config.json; do
    sed "s/\"eos_token_id\": 1/\"eos_token_id\": $third/" "$model/$file" >"$work/stops/$file.new"
    mv -f "$work/stops/$file.new" "$work/stops/$file"
done
for depth in 1 7; do
    rm -f "$work/s1"
    "$FORERUN" generate -m "$work/stops" --prompt-tokens "$ids" -n 64 -t 1 --act none --kv f32 --mtp on --depth $depth --json \
        -q --session "$work/s1" >"$work/json" || fail "generate with an eos token"
    holds tokens#3 finish_reason=stop session.tokens=10
    [ 3 -eq $(($(value speculative_decoding.num_first_tokens) + $(value speculative_decoding.num_cycles) + \
        $(value speculative_decoding.num_accepted_tokens))) ] || fail "an eos token at depth $depth: drafts behind it are counted"
    chat 0 "/load $work/s1\n/stats\n" -m "$work/stops" --act none --kv f32
    prints '^context     10 of '
done

# ---- Commands and errors ------------------------------------------------------------------------------------------------

chat 0 '/help\n' $plain
for command in help reset stats save load quit; do prints "^  /$command "; done
chat 0 '/stats\nOnce upon a time\n/stats\n' $plain --mtp on -q
prints '^context     0 of 2048 tokens$'
prints '^last turn   0 tokens kept, [0-9]* read in .* s; 20 made'
prints '^drafts      [0-9]* drafted, '
[ ! -s "$work/err" ] || fail "chat -q is not quiet"
chat 2 '/rest\nnot read\n' $plain
says '^forerun: /rest: there is no such command$'
says 'did you mean /reset?'
[ ! -s "$work/out" ] || fail "a script goes on after an error"
chat 2 '/save\n' $plain
says 'its FILE is missing'
chat 2 '/stats now\n' $plain
says 'takes nothing after it'
chat 1 "/load $work/none\n" $plain
says 'No such file'
chat 1 "/save $work/none/s\n" $plain
says 'No such file'
chat 1 "/load $model/config.json\n" $plain
says 'not a session file'
chat 0 "one\n/save $work/s1\n" $plain
chat 1 "/load $work/s1\n" $plain --kv f32
says 'its KV cache is bf16, the session.s is f32'
chat 1 "/load $work/s1\n" -m "$golden/nano-mtp-s1"
says 'the session of another model'
chat 1 "/load $work/s1\n" $plain --ctx 8
says 'do not fit in a context of 8'
size=$(wc -c <"$work/s1")
head -c $((size - 1)) "$work/s1" >"$work/cut"
chat 1 "/load $work/cut\n" $plain
says 'cut off'
chat 1 'a\000b\n' $plain
says 'NUL'
chat 2 '' $plain --json
says 'does not take this option'
chat 1 '' $plain --system 'Be brief.'
says 'no chat template'
chat 0 '' $plain
[ ! -s "$work/out" ] || fail "output without input"
mkdir "$work/mute"
for file in "$model"/*; do case $file in */tokenizer*.json | */golden) ;; *) cp "$file" "$work/mute/" ;; esac done
chat 1 'hello\n' -m "$work/mute"
says 'no tokenizer.json'

# A full context is reported, and only /reset helps.
chat 0 'Once upon a time\n/stats\n/reset\nOnce upon a time\n' $plain --ctx 24 -n 100
says 'the context of 24 tokens is full; /reset'
prints '^context     24 of 24 tokens$'
chat 1 'Once upon a time\nmore\n' $plain --ctx 24 -n 100
says 'do not fit in 24'
says '/reset begins a new conversation'
chat 1 'This is a long first message, longer than all that fits.\n' $plain --ctx 10
says 'do not fit in 10'

# ---- Interrupted ----------------------------------------------------------------------------------------------------------

slow="-m $golden/nano-mtp-s1 -n 2000 --ctx 2048 --ignore-eos -t 1 --isa scalar"
for try in 1 2 3 4 5; do
    rm -f "$work/out" "$work/err"
    echo 'a' >"$work/input"
    "$FORERUN" chat $slow <"$work/input" >"$work/out" 2>"$work/err" &
    process=$!
    while [ ! -s "$work/out" ] && kill -0 "$process" 2>/dev/null; do :; done
    kill -INT "$process" 2>/dev/null || true
    code=0
    wait "$process" || code=$?
    [ "$code" -eq 0 ] || break
done
[ "$code" -eq 130 ] || fail "interrupted: exit $code"
says '^interrupted$'

# On a terminal Ctrl-C ends the reply alone, at the prompt it only says how to end, and Ctrl-D ends.
awaits() { # awaits COUNT TEXT: until the terminal has shown TEXT so often
    for try in $(seq 600); do
        [ "$(tr '\r' '\n' <"$work/screen" | grep -a -c -e "$2")" -lt "$1" ] || return 0
        sleep 0.1
    done
    fail "on a terminal: no $2"
    cat "$work/screen"
}
if command -v script >/dev/null; then
    mkfifo "$work/keys"
    : >"$work/screen"
    NO_COLOR=1 script -qefc "$FORERUN chat $slow" "$work/screen" <"$work/keys" >/dev/null &
    process=$!
    exec 3>"$work/keys"
    awaits 1 '^> '
    printf 'a\n' >&3
    awaits 1 '^> a$'
    before=$(wc -c <"$work/screen") # a progress bar comes next, and then the reply
    while [ "$(wc -c <"$work/screen")" -lt $((before + 1000)) ] && kill -0 "$process" 2>/dev/null; do sleep 0.05; done
    printf '\003' >&3
    awaits 1 '^interrupted$'
    awaits 2 '^> '
    printf '/nonsense\n' >&3
    awaits 1 'there is no such command'
    printf '/stats\n' >&3
    awaits 1 '^context     [0-9]* of 2048 tokens'
    printf 'half a li\003' >&3
    awaits 1 'ends the conversation, another Ctrl-C the program'
    printf '/reset\n' >&3
    awaits 1 '^a new conversation$'
    printf '\004' >&3
    code=0
    wait "$process" || code=$?
    exec 3>&-
    [ "$code" -eq 0 ] || fail "on a terminal: exit $code"
else
    echo "there is no script(1): not tested on a terminal"
fi

# ---- A model with the template ----------------------------------------------------------------------------------------------

if [ -e models/demo/config.json ]; then
    count() { "$FORERUN" tokenize -m models/demo -p "$1" --json -q >"$work/json" && "$json_check" -p "$work/json" tokens | tr ',' '\n' | wc -l; }
    user='<｜User｜>' assistant='<｜Assistant｜>'
    one=$(count "${user}Hello there${assistant}") two=$(count "${user}And then?${assistant}") # each with bos
    talk='-m models/demo -n 5 --ignore-eos'
    chat 0 'Hello there\n/stats\nAnd then?\n/stats\n' $talk
    says 'the reply was cut after 5 tokens'
    keep both
    prints "^context     $((one + 5)) of "
    # The token that ends the first reply comes before the second message, which has no bos: that is as many tokens.
    prints "^context     $((one + 5 + two + 5)) of "
    prints "^last turn   $((one + 5 - 1)) tokens kept, $((two + 1)) read"
    [ "$(value tokens | tr -d '[]' | cut -d, -f1)" = 0 ] || fail "the demo model has no bos"
    chat 0 'Hello there\n/stats\n' $talk --system 'Be brief.'
    system=$(count "Be brief.${user}Hello there${assistant}")
    prints "^context     $((system + 5)) of "
    chat 0 "Hello there\n/save $work/s1\n" $talk
    keep turns
    chat 0 "/load $work/s1\nAnd then?\n" $talk
    cat "$work/out" >>"$work/turns"
    grep -a -v -e '^context  ' -e '^last turn  ' -e '^drafts  ' "$work/both" >"$work/replies"
    same replies turns 'a saved conversation goes on otherwise'
fi

[ "$failed" -eq 0 ] || { echo "conversations are not as they should be"; exit 1; }
echo "conversations are as they should be"
