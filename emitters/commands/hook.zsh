# Tells Exhaust what is typed in an interactive zsh: source it from ~/.zshrc or from /etc/zsh/zshrc.
# EXHAUST_SOCKET is the setting `socket` of the emitter `cli`. Nothing is forked, and where nobody listens, nothing
# waits. Each line has a connection of its own: zsh would let all programs inherit one that it keeps.

if [[ -o interactive ]] && (( ! ${+__exhaust_began} )) && zmodload zsh/net/socket zsh/datetime 2>/dev/null; then

typeset -g __exhaust_line= __exhaust_began= __exhaust_cwd=

__exhaust_preexec() {
    # The line as it was typed, also where the history leaves it out; without a history what it came to.
    __exhaust_line=${1:-$3} __exhaust_began=$EPOCHREALTIME __exhaust_cwd=$PWD
}

__exhaust_precmd() {
    local exit=$? ended=$EPOCHREALTIME REPLY
    [[ -n $__exhaust_began ]] || return 0
    emulate -L zsh
    setopt local_traps
    trap '' PIPE
    local -i began='__exhaust_began * 1000000' until='ended * 1000000'
    __exhaust_began=
    zsocket "${EXHAUST_SOCKET:-/run/exhaust/commands.sock}" || return 0
    # What is longer than the socket's buffer might have to wait for its reader.
    print -rN -u $REPLY -- exhaust/1 zsh $$ $began $until $exit "$__exhaust_cwd" "${__exhaust_line[1,16384]}"
    exec {REPLY}>&-
    return 0
} 2>/dev/null

autoload -Uz add-zsh-hook
add-zsh-hook preexec __exhaust_preexec
add-zsh-hook precmd __exhaust_precmd
add-zsh-hook zshexit __exhaust_precmd

fi
