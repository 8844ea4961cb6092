# Tells Exhaust what is typed in an interactive zsh: source it from ~/.zshrc or from /etc/zsh/zshrc.
# EXHAUST_SOCKET is the setting `socket` of the emitter `cli`.
#
# To connect may wait for whoever listens, for ever if that hangs, so one small process for each session does it, and
# passes on what a builtin writes into its pipe; no prompt forks, and none waits: what has no room there is not told.
# Each line has a connection of its own. Programs do not inherit the pipe.

if [[ -o interactive ]] && (( ! ${+__exhaust_began} )) &&
    zmodload zsh/net/socket zsh/datetime zsh/system 2>/dev/null; then

typeset -g __exhaust_line= __exhaust_began= __exhaust_cwd= __exhaust_rest=
typeset -gi __exhaust_pipe=-1

__exhaust_relay() { # ends with the shell
    emulate -L zsh
    builtin cd -q / # to keep no folder from being unmounted
    trap '' HUP INT QUIT TSTP TTOU TTIN PIPE
    local -a frame
    local field REPLY
    while IFS= read -r -d $'\0' field; do
        frame+=("$field")
        (( $#frame == 8 )) || continue
        if zsocket "${EXHAUST_SOCKET:-/run/exhaust/commands.sock}"; then
            print -rN -u $REPLY -- "${frame[@]}"
            exec {REPLY}>&-
        fi
        frame=()
    done
}

__exhaust_open() {
    emulate -L zsh
    local -i pipe
    exec {pipe}> >(__exhaust_relay >/dev/null)
    sysopen -w -o cloexec,nonblock -u __exhaust_pipe /proc/self/fd/$pipe
    exec {pipe}>&-
} 2>/dev/null

__exhaust_preexec() {
    # The line as it was typed, also where the history leaves it out; without a history what it came to.
    __exhaust_line=${1:-$3} __exhaust_began=$EPOCHREALTIME __exhaust_cwd=$PWD
}

__exhaust_precmd() {
    local exit=$? ended=$EPOCHREALTIME
    [[ -n $__exhaust_began ]] || return 0
    emulate -L zsh
    setopt local_traps no_multibyte # lengths are of bytes
    trap '' PIPE
    local -i began='__exhaust_began * 1000000' until='ended * 1000000'
    __exhaust_began=
    __exhaust_write || return 0 # first the rest of what had no room
    # Of no more than its pipe has room for at once.
    local -a frame=(exhaust/1 zsh $$ $began $until $exit "$__exhaust_cwd" "${__exhaust_line[1,32768]}" '')
    __exhaust_rest=${(pj:\0:)frame}
    local -i whole=$#__exhaust_rest
    __exhaust_write || (( $#__exhaust_rest < whole )) || __exhaust_rest= # nothing of it was told, so none is to be
    return 0
} 2>/dev/null

__exhaust_write() {
    local -i sent=0
    [[ -z $__exhaust_rest ]] || syswrite -c sent -o $__exhaust_pipe -- "$__exhaust_rest"
    __exhaust_rest=${__exhaust_rest[sent+1,-1]}
    [[ -z $__exhaust_rest ]]
}

__exhaust_open
autoload -Uz add-zsh-hook
add-zsh-hook preexec __exhaust_preexec
add-zsh-hook precmd __exhaust_precmd
add-zsh-hook zshexit __exhaust_precmd

fi
