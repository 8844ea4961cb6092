# Tells Exhaust what is typed in an interactive bash, version 5 or newer: source it at the end of ~/.bashrc or of
# /etc/bash.bashrc. EXHAUST_SOCKET is the setting `socket` of the emitter `cli`, EXHAUST_PYTHON a Python 3.8 or newer.
#
# Bash cannot open a unix socket, so one small process for each session passes on what a builtin writes into its pipe;
# no prompt forks. The line itself is in the history even where HISTCONTROL or HISTIGNORE would keep it out: both are
# put aside while a line is read, and what they would have left out is deleted before the next prompt. A line is told
# once it has ended; one that replaces the shell (exec) never is.

if [[ $- == *i* && -z ${__exhaust_began+set} ]] && ((BASH_VERSINFO[0] >= 5)) && shopt -q promptvars &&
    type -P "${EXHAUST_PYTHON:-python3}" >/dev/null; then

declare -A __exhaust_void=([set]='')
__exhaust_began=0 __exhaust_control='' __exhaust_ignore='' __exhaust_previous='' __exhaust_number='' __exhaust_file=''
__exhaust_cwd=$PWD

__exhaust_relay='
import os, select, signal, sys
from _socket import AF_UNIX, SOCK_STREAM, socket
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP): # it ends with the shell
    signal.signal(number, signal.SIG_IGN)
print(os.memfd_create("exhaust"), flush=True)
os.close(1)
parts, frames, link, more = [b""], [], None, True
while more:
    if select.select([0], [], [], 5 if frames else None)[0]:
        text = os.read(0, 65536)
        more = bool(text)
        first, *rest = text.split(b"\0")
        parts[-1] += first
        parts += rest
        while len(parts) > 8:
            frames.append(b"\0".join(parts[:8]) + b"\0")
            del parts[:8]
        del frames[:-100]
    while frames:
        try:
            if link is None:
                link = socket(AF_UNIX, SOCK_STREAM)
                link.settimeout(1)
                link.connect(sys.argv[1])
            link.sendall(frames[0])
            del frames[0]
        except OSError:
            link = link.close()
            break
'

__exhaust_tell() { # $1 exit status, $2 when it ended
    local line=''
    if [[ -o history && $HISTCMD != "$__exhaust_number" ]]; then
        # The way into a variable without a fork: a file that the other process holds and nobody else sees.
        [[ $__exhaust_file ]] || read -r -t 2 -u "${__EXHAUST[0]}" __exhaust_file
        if [[ $__exhaust_file ]] && fc -ln -1 -1 >"/proc/$__EXHAUST_PID/fd/$__exhaust_file"; then
            IFS= read -r -d '' line <"/proc/$__EXHAUST_PID/fd/$__exhaust_file"
            line=${line%$'\n'} line=${line#$'\t'} line=${line:1}
            __exhaust_forget "$line"
        fi
    fi
    local LC_ALL=C # so much of it in bytes
    [[ -n ${__EXHAUST[1]-} ]] && printf '%s\0' exhaust/1 bash "$$" "$__exhaust_began" "$2" "$1" "$__exhaust_cwd" \
        "${line:0:65536}" >&"${__EXHAUST[1]}"
} 2>/dev/null

__exhaust_forget() { # deletes the line from the history where that is wanted
    local pattern same=0 LC_ALL=C
    [[ $1 == "$__exhaust_previous" ]] && same=1
    case :${HISTCONTROL-}: in
        *:ignorespace:* | *:ignoreboth:*) [[ $1 == [[:blank:]]* ]] && history -d -1 && return ;;
    esac
    case :${HISTCONTROL-}: in
        *:ignoredups:* | *:ignoreboth:*) ((same)) && history -d -1 && return ;;
    esac
    local IFS=: patterns
    read -ra patterns <<<"${HISTIGNORE-}"
    for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2053  it is a pattern
        if [[ $1 == $pattern ]] || { [[ $pattern == '&' ]] && ((same)); }; then
            history -d -1
            return
        fi
    done
    __exhaust_previous=$1
}

__exhaust_begin() { # first of what comes before a prompt
    local status=$? ended=${EPOCHREALTIME/[^0-9]/}
    if ((__exhaust_began)); then
        __exhaust_tell "$status" "$ended"
    else # an empty line: what begins a command has not put them back
        HISTCONTROL=$__exhaust_control HISTIGNORE=$__exhaust_ignore
    fi
    __exhaust_began=0
    return "$status"
}

__exhaust_last() { # the line that ends the session, $1 its exit status
    __exhaust_number='' # of that line it is no other than before
    ((__exhaust_began)) && __exhaust_tell "$1" "${EPOCHREALTIME/[^0-9]/}"
}

__exhaust_end() { # last of it
    local status=$?
    __exhaust_control=${HISTCONTROL-} __exhaust_ignore=${HISTIGNORE-}
    [[ -z ${__EXHAUST_PID-} ]] || HISTCONTROL='' HISTIGNORE=''
    __exhaust_number=$HISTCMD __exhaust_cwd=$PWD
    return "$status"
}

{
    coproc __EXHAUST { exec "${EXHAUST_PYTHON:-python3}" -I -S -c "$__exhaust_relay" \
        "${EXHAUST_SOCKET:-/run/exhaust/commands.sock}"; }
    disown "$__EXHAUST_PID"
    unset __exhaust_relay
} 2>/dev/null
__exhaust_control=${HISTCONTROL-} __exhaust_ignore=${HISTIGNORE-}

# Expanded once a command was read and before it runs. Nothing of it is printed; it forks nothing.
PS0=${PS0-}'${__exhaust_void[set${HISTCONTROL:=$__exhaust_control}${HISTIGNORE:=$__exhaust_ignore}]-}'
PS0+='${__exhaust_void[set$((__exhaust_began=${EPOCHREALTIME/[^0-9]/}))]-}'
if ((BASH_VERSINFO[0] > 5 || BASH_VERSINFO[1] >= 1)); then
    PROMPT_COMMAND=(__exhaust_begin "${PROMPT_COMMAND[@]}" __exhaust_end)
else
    PROMPT_COMMAND=$'__exhaust_begin\n'${PROMPT_COMMAND-}$'\n__exhaust_end'
fi
[[ -n $(trap -p EXIT) ]] || trap '__exhaust_last "$?"' EXIT

fi
