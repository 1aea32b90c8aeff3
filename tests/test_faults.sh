#!/bin/sh
# Faults of disks and of the system, provoked by a library that makes calls fail (fault_shim.c): an error with exit 1, and files that
# are as they were or whole.
#
#   FORERUN=build/forerun sh tests/test_faults.sh JSON_CHECK SHIM
set -eu
json_check=$1 shim=$2
. "$(dirname "$0")/program.sh"
model=$golden/pico-mtp-s1
quick='--no-pin -t 1 -q'
# A library that comes before a sanitizer's own is what is wanted here.
ASAN_OPTIONS="${ASAN_OPTIONS:-}${ASAN_OPTIONS:+:}verify_asan_link_order=0"
export ASAN_OPTIONS

# faulty CALLS PATH AT WHAT ARGUMENTS...: runs the program so; its exit status is $code, its messages are in $work/err.
faulty() {
    calls=$1 path=$2 at=$3 what=$4
    shift 4
    code=0
    env LD_PRELOAD="$shim" FAULT_CALLS="$calls" FAULT_PATH="$path" FAULT_AT="$at" FAULT_DO="$what" FAULT_COUNT="$work/calls" \
        "$FORERUN" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
}
# counted CALLS PATH ARGUMENTS...: runs it without a fault; $count is how many such calls there are.
counted() {
    counted_calls=$1 counted_path=$2
    shift 2
    faulty "$counted_calls" "$counted_path" 0 none "$@"
    [ $code -eq 0 ] || { fail "without a fault: exit $code: $*"; cat "$work/err"; }
    count=$(cat "$work/calls")
    [ "$count" -gt 0 ] || fail "no $counted_calls of $counted_path in: $*"
}
# fails WHAT: the last run ended with an error that names the cause.
fails() {
    [ "$code" -eq 1 ] && grep -q "^forerun: .*$1" "$work/err" || { fail "$calls $at $what: exit $code, not an error with: $1"; cat "$work/err"; }
}
listing() { (cd "$1" && find . | sort); }
writes='open,write,pwrite,fsync,truncate,rename'

# ---- A session file: as it was or whole, whatever fails ---------------------------------------------------------------------

mkdir "$work/s"
session="$work/s/session"
more="generate -m $model $quick --no-learned -p b -n 2 --ignore-eos --session $session"
run 0 generate -m "$model" $quick --no-learned -p abc -n 2 --ignore-eos --session "$session"
cp "$session" "$work/old"
counted "$writes" .session.partial $more
cp "$session" "$work/new"
restore() { cp "$work/old" "$session"; }
i=0
while [ $i -lt "$count" ]; do
    i=$((i + 1))
    restore
    faulty "$writes" .session.partial $i EIO $more
    fails 'session: cannot write: Input/output error'
    cmp -s "$session" "$work/old" || fail "the old session is damaged after fault $i"
    [ "$(listing "$work/s")" = "$(printf '.\n./session')" ] || { fail "litter after fault $i"; listing "$work/s"; }
    restore
    faulty "$writes" .session.partial $i kill $more
    [ $code -eq 137 ] || fail "killed at call $i: exit $code"
    cmp -s "$session" "$work/old" || fail "the old session is damaged after a kill at call $i"
done
[ -e "$work/s/.session.partial" ] || fail "a killed save leaves nothing: the test is wrong"
faulty "$writes" .session.partial 1 ENOSPC $more
fails 'No space left on device'
grep -q '^hint: make room' "$work/err" || fail "a full disk has no hint"
for what in EINTR short; do # half of what is written, or nothing at first: it is written in the end
    restore
    faulty write,pwrite .session.partial 1 $what $more
    [ $code -eq 0 ] && cmp -s "$session" "$work/new" || fail "a write that is $what: exit $code, or another file"
done
[ "$(listing "$work/s")" = "$(printf '.\n./session')" ] || fail "the next save leaves what a killed one left"
restore
faulty rename "$session" 1 kill $more
cmp -s "$session" "$work/old" || fail "the old session is damaged by a kill before its new name"
run 0 $more
cmp -s "$session" "$work/new" || fail "a save after a killed one is another"
for what in EIO end; do
    faulty read "$session" 2 $what $more
    fails 'session: '
    cmp -s "$session" "$work/new" || fail "a session that cannot be read is changed"
done
for what in EINTR short; do
    faulty read "$session" 2 $what $more
    [ $code -eq 0 ] || { fail "a read that is $what: exit $code"; cat "$work/err"; }
    cp "$work/new" "$session"
done

# ---- Checkpoints: what was there is there, what is half written has a temporary name -----------------------------------------

for command in "quantize -m $model --to bf16" "synth --like $model --tokenizer $model --shard-bytes 400000"; do
    counted "$writes" .partial $command -o "$work/c" -q
    listing "$work/c" >"$work/whole"
    rm -r "$work/c"
    for i in 1 $((count / 3)) $((count / 2)) $((count - 2)) "$count"; do
        rm -rf "$work/c"
        faulty "$writes" .partial $i EIO $command -o "$work/c" -q
        fails 'Input/output error'
        [ ! -e "$work/c" ] || { fail "$command: litter after fault $i"; listing "$work/c"; rm -r "$work/c"; }
        faulty "$writes" .partial $i kill $command -o "$work/c" -q
        [ $code -eq 137 ] || fail "$command: killed at call $i: exit $code"
        others=$(find "$work/c" -type f ! -name '.*.partial')
        [ -z "$others" ] || fail "$command: killed at call $i, and not all is called temporary: $others"
    done
    run 0 $command -o "$work/c" -q # takes the directory that a killed run left
    listing "$work/c" | cmp -s - "$work/whole" || { fail "$command: a killed run's litter is left"; listing "$work/c"; }
    run 0 check -m "$work/c" -q
    cp -r "$work/c" "$work/before"
    faulty "$writes" .partial 3 kill $command -o "$work/c" -q --force # a checkpoint that is written over
    rm -f "$work/c"/.*.partial
    diff -r "$work/before" "$work/c" >/dev/null || fail "$command --force, killed: the old checkpoint is damaged"
    faulty rename "$work/none" 0 none $command -o "$work/c" -q --force
    faulty pwrite .partial 2 short $command -o "$work/c" -q --force
    [ $code -eq 0 ] || fail "$command: a short write: exit $code"
    diff -r "$work/before" "$work/c" >/dev/null || fail "$command: a short write changes what is written"
    rm -r "$work/c" "$work/before"
done

# ---- What auto learned: never needed, never half ---------------------------------------------------------------------------

learn="generate -m $model --no-pin -t 1 -q -p abc --ignore-eos --mtp auto -n"
run 0 $learn 400 # enough to be kept, and added to by what follows
learn="$learn 4"
counted "$writes" .json.partial $learn
learned=$(echo "$XDG_CACHE_HOME"/forerun/*.json)
cp "$learned" "$work/old"
i=0
while [ $i -lt "$count" ]; do
    i=$((i + 1))
    for what in EIO kill; do
        cp "$work/old" "$learned"
        faulty "$writes" .json.partial $i $what $learn
        cmp -s "$learned" "$work/old" || fail "what was learned is damaged: $what at call $i"
    done
done
[ $code -eq 137 ] || fail "the last one was not killed"
run 0 $learn
[ "$(listing "$XDG_CACHE_HOME/forerun" | wc -l)" -eq 2 ] || { fail "litter beside what was learned"; listing "$XDG_CACHE_HOME/forerun"; }

# ---- Arrays and reports ----------------------------------------------------------------------------------------------------

mkdir "$work/r"
study="-m $model $quick --prompt-tokens 5,6,7,8 -n 8 --ignore-eos"
for output in "r.npy score -m $model $quick -p abcdef --logits" "r.npy score -m $model $quick -p abcdef --hidden" \
    "r.npy score -m $model $quick -p abcdef --experts" "r.html accept $study --html" "r.csv accept $study --csv" \
    "r.html ab $study --repeats 1 --html" "r.csv ab $study --repeats 1 --csv"; do
    name=${output%% *} command=${output#* }
    echo old >"$work/r/$name"
    counted "$writes" ".$name.partial" $command "$work/r/$name"
    for i in 1 $((count / 2)) "$count"; do
        echo old >"$work/r/$name"
        faulty "$writes" ".$name.partial" $i ENOSPC $command "$work/r/$name"
        fails 'cannot write: No space left on device'
        [ "$(cat "$work/r/$name")" = old ] || fail "$command: the old file is damaged after fault $i"
        [ "$(listing "$work/r")" = "$(printf '.\n./%s' "$name")" ] || fail "$command: litter after fault $i"
    done
    rm "$work/r/$name"
done

# ---- Output that cannot be written ------------------------------------------------------------------------------------------

for command in "generate -m $model $quick -p abc -n 3" "generate -m $model $quick -p abc -n 3 --json" "score -m $model $quick -p abcd --json" \
    "accept $study --json" "ab $study --repeats 1 --json" "inspect -m $model" "inspect -m $model --json" "check -m $model --json" \
    "tokenize -m $model -p abc" "synth --like $model --sparse --json -q --force -o $work/c" "--version" "help generate"; do
    rm -rf "$work/c"
    code=0
    "$FORERUN" $command >&- 2>"$work/err" </dev/null || code=$?
    [ $code -eq 1 ] && grep -q '^forerun: standard output: Bad file' "$work/err" || { fail "closed output: exit $code: $command"; cat "$work/err"; }
    [ -w /dev/full ] || continue
    rm -rf "$work/c"
    code=0
    "$FORERUN" $command >/dev/full 2>"$work/err" </dev/null || code=$?
    [ $code -eq 1 ] && grep -q '^forerun: standard output: No space' "$work/err" || { fail "full output: exit $code: $command"; cat "$work/err"; }
done
mkfifo "$work/pipe"
(: <"$work/pipe") &
exec 4>"$work/pipe"
wait # now nobody reads it
code=0
(trap '' PIPE && exec "$FORERUN" inspect -m "$model" >&4 2>"$work/err" </dev/null) || code=$?
exec 4>&-
[ "$code" -eq 1 ] && grep -q 'standard output: Broken pipe' "$work/err" || { fail "a pipe that nobody reads: exit $code"; cat "$work/err"; }
# Files that are opened do not take the place of closed ones: no message gets into them.
run 0 score -m "$model" -t 1 -p abcdef --logits "$work/r/l.npy"
"$FORERUN" score -m "$model" -t 1 -p abcdef --logits "$work/r/m.npy" >"$work/out" 2>&- <&- || fail "closed input and messages: exit $?"
cmp -s "$work/r/l.npy" "$work/r/m.npy" || fail "messages went into a file"
if [ "$(id -u)" -ne 0 ]; then
    mkdir -m 555 "$work/readonly"
    for command in "generate -m $model $quick -p a -n 1 --session $work/readonly/s" "score -m $model $quick -p abc --logits $work/readonly/l.npy" \
        "synth --like $model -q -o $work/readonly/c"; do
        run 1 $command
        grep -q 'Permission denied' "$work/err" || fail "a read-only folder: $command"
    done
else # who may write everywhere: the system says so
    for command in "generate -m $model $quick -p a -n 1 --session $work/r/s" "score -m $model $quick -p abc --logits $work/r/l.npy" \
        "quantize -m $model --to bf16 -q -o $work/c"; do
        rm -rf "$work/c"
        faulty open .partial 1 EROFS $command
        fails 'cannot write: Read-only file system'
    done
fi

# ---- Files of a checkpoint that cannot be read ----------------------------------------------------------------------------

for file in config.json model.safetensors.index.json model-00002-of-00002.safetensors tokenizer.json; do
    for command in "generate -m $model $quick -p abc -n 2" "check -m $model -q" "inspect -m $model" "tokenize -m $model -p abc"; do
        for calls in open read,pread mmap; do
            for what in EIO EMFILE; do
                faulty $calls "$model/$file" 1 $what $command
                [ "$(cat "$work/calls")" -gt 0 ] || continue
                case $code in 1) ;; 3) continue ;; 0) continue ;; *) fail "$calls $file $what: exit $code: $command"; cat "$work/err" ;; esac
                [ $code -eq 0 ] || grep -q "^forerun: .*$file" "$work/err" || { fail "$calls $file: the error does not name it: $command"; cat "$work/err"; }
            done
        done
    done
done

# ---- A file that is cut while it is mapped --------------------------------------------------------------------------------

cut=$work/cut
mkdir "$cut"
mkfifo "$work/prompt" "$work/said"
whole() { cp "$model"/*.json "$model"/*.safetensors "$cut"; }
shard=model-00002-of-00002.safetensors
names_the_cut() {
    grep -q "^forerun: $cut/$shard: tensor [a-z].*: cannot be read at offset .* has 1000 bytes now" "$work/err" &&
        grep -q '^hint: something cut it' "$work/err" || { fail "the error of a cut file: $1"; cat "$work/err"; }
}
# While the prompt is waited for: nothing was generated, and there is no document.
for json in '' --json; do
    whole
    "$FORERUN" generate -m "$cut" $quick -f "$work/prompt" -n 5 $json >"$work/out" 2>"$work/err" &
    exec 5>"$work/prompt" # it has opened the model
    truncate -s 1000 "$cut/$shard"
    echo abc >&5
    exec 5>&-
    code=0
    wait $! || code=$?
    [ $code -eq 1 ] && [ ! -s "$work/out" ] || fail "a prompt over a cut file: exit $code $json"
    names_the_cut "prefill $json"
done
# While text is made: what there is is printed, and saved.
for json in '' --json; do
    for try in 1 2 3 4 5 6 7 8 9 10; do # it may be done before the file is cut
        whole
        rm -f "$work/kept"
        : >"$work/err"
        "$FORERUN" generate -m "$cut" --no-pin --no-learned -t 1 -p abc -n 1900 --ignore-eos $json --session "$work/kept" >"$work/out" \
            2>"$work/err" </dev/null &
        if [ "$json" ]; then
            while ! grep -q '^memory: ' "$work/err"; do :; done # then it begins
            sleep 0.05
        else
            while [ ! -s "$work/out" ]; do :; done
        fi
        truncate -s 1000 "$cut/$shard"
        code=0
        wait $! || code=$?
        [ $code -eq 1 ] && [ -s "$work/out" ] && break
    done
    [ $code -eq 1 ] || fail "text over a cut file: exit $code $json"
    names_the_cut "text $json"
    if [ "$json" ]; then
        holds finish_reason=error error.where error.hint tokens
        grep -q '"message":.*cannot be read at offset' "$work/out" || fail "the document does not say why"
    fi
    run 0 generate -m "$model" $quick --no-learned -n 2 --ignore-eos --session "$work/kept" --json # it goes on
    holds session.loaded_tokens'>3' tokens#2
done
# Between two turns of a conversation.
whole
mkfifo "$work/lines"
"$FORERUN" chat -m "$cut" $quick -n 4 --ignore-eos <"$work/lines" >"$work/said" 2>"$work/err" &
exec 5>"$work/lines" 6<"$work/said"
echo abc >&5
IFS= read -r reply <&6 || true
truncate -s 1000 "$cut/$shard"
echo def >&5
exec 5>&-
cat <&6 >/dev/null
exec 6<&-
code=0
wait $! || code=$?
[ $code -eq 1 ] && [ -n "$reply" ] || fail "a conversation over a cut file: exit $code"
names_the_cut chat

[ $failed -eq 0 ] && echo "faults end in errors, and files are as they were or whole"
exit $failed
