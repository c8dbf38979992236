# Unlike clap's script, this one joins the words again that bash splits at `=`, and
# replaces only the last part. It unquotes the words and quotes the candidates.
_rememberizer() {
    local IFS=$'\n' current="${2//\\/}" before="" is_value="" candidate i
    local -a words=()
    current="${current#[\"\']}"
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == "=" && ${#words[@]} -gt 1 ]]; then
            before="${words[${#words[@]} - 1]}="
            words[${#words[@]} - 1]="$before"
            is_value=1
        elif [[ -n $is_value ]]; then
            words[${#words[@]} - 1]="$before${COMP_WORDS[i]//\\/}"
            is_value=""
            ((i == COMP_CWORD)) || before=""
        else
            words+=("${COMP_WORDS[i]//\\/}")
            before=""
        fi
    done
    words[${#words[@]} - 1]="$before$current"
    compopt +o nospace 2>/dev/null
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate="${candidate#"$before"}"
        [[ -n $candidate ]] || continue
        [[ $candidate == *[=/] ]] && compopt -o nospace 2>/dev/null
        [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] || printf -v candidate '%q' "$candidate"
        [[ $current == "~"* ]] && candidate="~${candidate#\\~}"
        COMPREPLY+=("$candidate")
    done < <(
        REMEMBERIZER_COMPLETE=bash _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            rememberizer -- "${words[@]}" 2>/dev/null && echo
    )
}
complete -o nospace -o bashdefault -F _rememberizer rememberizer
