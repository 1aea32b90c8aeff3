#!/bin/sh
# Records what forerun computes and prints, without its times, to show that a change changes nothing: the recordings of the program
# before and after it are the same to the byte (diff -r BEFORE AFTER).
#
#   sh tools/record.sh PROGRAM OUT_DIR
#
# Tokens, logits, hidden states, chosen experts, session files, counters and studies, over every small model, instruction set,
# drafter, depth and verification rule. Some minutes.
set -eu
program=$1 out=$2
case $program in /*) ;; *) program=$PWD/$program ;; esac
cd "$(dirname "$0")/.."
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Times, and what follows from them or from the machine's state, become T.
untimed() {
    sed -E 's/"([a-z0-9_]*(_s|_ms|_per_s))":([[:space:]]*)(\[[^]]*\]|[-+.0-9eE]+)/"\1":\3T/g;
        s/"(available_bytes|peak_rss_bytes|load_average|created|cost_per_cycle|break_even_[a-z]+|counts)":([[:space:]]*)(\[[^]]*\]|"[^"]*"|[^,]*)/"\1":\2T/
        /"slower_prompts":/,/}/s/":([[:space:]]*)[0-9][^,]*/":\1T/'
}

# What a study measured is times but for whole numbers and words.
whole() { untimed | sed -E 's/-?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?/F/g; s/-?[0-9]+[eE][-+]?[0-9]+/F/g'; }

place() { sed "s|$out|OUT|g"; }

run() { # run NAME FILTER ARGS...: the program's output and exit status, filtered
    record=$1 filter=$2
    shift 2
    status=0
    "$program" "$@" >"$out/.raw" 2>"$out/.err" </dev/null || status=$?
    { $filter <"$out/.raw" | place; echo "exit $status"; } >"$out/$record"
    [ $status -eq 0 ] || sed 's/^/stderr: /' "$out/.err" | place >>"$out/$record"
}

ids=$(awk 'BEGIN { for (i = 0; i < 40; i++) printf "%s%d", i ? "," : "", (i * i * 7 + i * 3 + 5) % 90 + 4 }')
# The words that an option takes, but auto.
words() { "$program" generate --help | sed -n "s/^ *--$1 \([a-z0-9|]*\).*/\1/p" | tr '|' ' ' | sed 's/\<auto\>//'; }

isas=
for isa in $(words isa); do
    ! "$program" score -q --json --isa $isa --prompt-tokens 5,6 >"$out/.raw" 2>&1 || isas="$isas $isa"
done

for model in tests/golden/*/ models/demo/; do
    [ -e "$model/config.json" ] || continue
    name=$(basename "$model")
    run "$name.inspect" untimed inspect -m "$model" --json --tensors -t 2
    run "$name.check" untimed check -m "$model" --json
    mtp=no
    ! grep -q '"num_nextn_predict_layers": *[1-9]' "$model/config.json" || mtp=yes
    for isa in $isas; do
        at=$name.$isa
        every="-m $model --isa $isa -q"
        for act in fp8 none; do
            files="--logits $out/$at.$act.logits.npy --hidden $out/$at.$act.hidden.npy --experts $out/$at.$act.experts.npy"
            [ $mtp = no ] || files="$files --mtp-logits $out/$at.$act.mtp.npy"
            # shellcheck disable=SC2086 # options are words
            run "$at.$act.score" untimed score $every -t 1 --json --prompt-tokens "$ids" --act $act $files
        done
        for drafter in $(words drafter); do
            for mode in 'off 1' 'on 1' 'on 3' 'on 7'; do
                for how in 'greedy --temperature 0 --kv f32' 'coupled --temperature 0.8 --top-p 0.95 --seed 5' \
                    'rejection --temperature 0.8 --verify rejection --seed 5' 'penalties --repetition-penalty 1.2 --frequency-penalty 0.1'; do
                    # shellcheck disable=SC2086
                    threads=1; [ "$mode" != "on 3" ] || threads=2
                    # shellcheck disable=SC2086
                    set -- -t $threads ${how#* } --mtp ${mode% *} --depth ${mode#* } --drafter $drafter
                    [ "$drafter" = mtp ] || [ "${mode% *}" = on ] || continue
                    [ "$drafter" != mtp ] || [ $mtp = yes ] || [ "${mode% *}" = off ] || continue
                    label=$at.$drafter.${mode% *}${mode#* }.${how%% *}
                    rm -f "$out/$label.session"
                    # shellcheck disable=SC2086
                    run "$label" untimed generate $every --json --prompt-tokens "$ids" -n 40 --ignore-eos --session "$out/$label.session" "$@"
                done
            done
        done
    done
    if [ $mtp = yes ]; then
        isa=$(echo "$isas" | awk '{ print $NF }')
        for forced in '' --teacher-forced; do
            # shellcheck disable=SC2086
            run "$name.accept$forced" whole accept -m "$model" --isa "$isa" -t 2 -q --json --prompt-tokens "$ids" -n 24 --depths 1,3 \
                --temperatures 0,0.7 --verify both --mtp-hidden both $forced --csv "$out/.csv"
            whole <"$out/.csv" >"$out/$name.accept$forced.csv"
        done
        run "$name.ab" whole ab -m "$model" --isa "$isa" -t 2 -q --json --prompt-tokens "$ids" -n 24 --arms off,on:1,on:3 --repeats 1 \
            --synthetic-acceptance 0.7
    fi
done
# Session files are large: their digests will do.
for file in "$out"/*.session; do
    [ ! -e "$file" ] || { cksum <"$file" >"$file.sum"; rm -f "$file"; }
done
for file in "$out"/*.npy; do
    [ ! -e "$file" ] || { cksum <"$file" >"$file.sum"; rm -f "$file"; }
done
rm -f "$out/.raw" "$out/.err" "$out/.csv"
echo "$(find "$out" -type f | wc -l) recordings in $out"
