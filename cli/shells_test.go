package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"nigh/agent/control"
)

// A shell is a real one on a terminal, with our completion. Ctrl+g shows its line as it is: LINE<...>.
type shell struct {
	t      *testing.T
	keys   io.Writer
	home   string // where it is
	screen *output
	seen   int // of screen
	turns  int
}

// shells are how each one is started: without the files of a user, without a
// prompt, and with the key that shows the line.
var shells = map[string]struct {
	args []string
	init string
}{
	"bash": {[]string{"--norc", "--noprofile", "-i"}, `PS1=; HISTFILE=; bind -x '"\C-g": printf "LINE<%s>\n" "$READLINE_LINE"'; source <(nigh completion bash)`},
	"zsh": {[]string{"-f", "-i"}, `PS1= PROMPT_SP=; unsetopt zle_bracketed_paste 2>/dev/null; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; ` +
		`show-line() { zle -I; print -r -- "LINE<$BUFFER>" }; zle -N show-line; bindkey -e; bindkey '^G' show-line; setopt no_list_beep; source <(nigh completion zsh)`},
	"fish": {[]string{"--no-config", "-i"}, `function fish_prompt; end; set -g fish_autosuggestion_enabled 0; nigh completion fish | source; bind \cg 'printf "LINE<%s>\n" (commandline | string collect)'`},
}

func startShell(t *testing.T, name, socket string) *shell {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	home := t.TempDir()
	cmd := exec.Command(program, shells[name].args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "XDG_CACHE_HOME="+home, "NIGH_SOCKET="+socket, "TERM=xterm", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "GORACE=atexit_sleep_ms=0")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 400})
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, home: home, keys: terminal, screen: &output{changed: make(chan struct{})}}
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(s.screen, terminal) }) // ends with EIO when the shell does
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		terminal.Close()
		reading.Wait()
		if t.Failed() {
			text, _ := s.screen.look()
			t.Logf("the terminal:\n%q", text)
		}
	})
	s.run(shells[name].init)
	return s
}

func (s *shell) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, text); err != nil {
		s.t.Fatal(err)
	}
}

// find waits for what comes next on the terminal and returns its groups.
func (s *shell) find(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(time.Minute)
	for {
		text, more := s.screen.look()
		if at := re.FindStringSubmatchIndex(text[s.seen:]); at != nil {
			found := re.FindStringSubmatch(text[s.seen:])
			s.seen += at[1]
			return found
		}
		select {
		case <-more:
		case <-deadline:
			s.t.Fatalf("%s did not appear", pattern)
		}
	}
}

// run has a line executed and returns when that is done.
func (s *shell) run(line string) {
	s.t.Helper()
	s.turns++
	s.write(fmt.Sprintf("%s\recho FIN''ISHED%d.\r", line, s.turns))
	s.find(fmt.Sprintf(`FINISHED%d\.`, s.turns))
}

// complete types keys, in which \t is tab, and returns the line that came of it; it is left as it is.
func (s *shell) complete(keys string) string {
	s.t.Helper()
	s.write(keys + "\a")
	return s.find(`LINE<([^\r\n]*)>\r?\n`)[1]
}

// hostile are the names of devices that want to be more than that. The file pwned would be made by each that was run.
var hostile = []string{
	"$(touch pwned)", "`touch pwned`", ";touch pwned;", "Ana's \"best\" laptop", "two  words", "a\\b", "~root", "*", "-rf", "x=y", "büro!1", "n\new", "\x1b[2Jclear", "a|touch pwned", "{a,b}", "#hash", "(touch pwned)",
}

// quotable are those that are put on the line: not what looks like a flag or a home, nor what cannot be seen.
func quotable(name string) bool {
	return name[0] != '-' && name[0] != '~' && !strings.ContainsAny(name, "\n\x1b")
}

// neighbours is an agent whose devices a test changes.
type neighbours struct {
	served
	mu    sync.Mutex
	peers []control.Peer
}

func (n *neighbours) Peers(context.Context) ([]control.Peer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers, nil
}

func (n *neighbours) set(peers ...control.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = peers
}

// neighbourhood serves such an agent until the test ends.
func neighbourhood(t *testing.T) (n *neighbours, socket string) {
	t.Helper()
	b, err := newBackend("testdata/backend.json", "")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "nigh") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	ln, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	n = &neighbours{served: served{b}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(control.Config{Backend: n}).Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return n, socket
}

// In each real shell, the name of a device that is completed and then run reaches the agent as it is, whatever is in it,
// and nothing of it is run; what looks like a flag or cannot be seen is not completed.
func TestShellsTakeEveryName(t *testing.T) {
	for name := range shells {
		t.Run(name, func(t *testing.T) {
			agent, socket := neighbourhood(t)
			s := startShell(t, name, socket)
			for i, n := range hostile {
				short := fmt.Sprintf("AA%02d-BBBB", i)
				peer, want := control.Peer{ID: "ID", Short: short, Name: n, State: "ready"}, short
				if quotable(n) {
					peer.Short, want = "", n // alone, so that a tab says all of it
				}
				agent.set(peer)
				line := s.complete("nigh trust block \t")
				s.run("")
				raw, err := json.Marshal(control.TrustRequest{Action: "block", Device: want})
				if err != nil {
					t.Fatal(err)
				}
				if calls := agent.b.calls(); !strings.HasSuffix(calls, "ChangeTrust "+string(raw)+"\n") {
					t.Errorf("%q is completed as %q, and the agent was asked:\n%s", n, line, calls)
				}
			}
			s.nothingRan()
		})
	}
}

// In each real shell what a device shares is completed step by step, with quotes and without, and IDs, flags and files; what
// stands on the line already is not run.
func TestShellsCompleteByAndBy(t *testing.T) {
	for name := range shells {
		t.Run(name, func(t *testing.T) {
			agent, socket := neighbourhood(t)
			agent.set(control.Peer{ID: "ID", Name: "Ana's laptop", Trust: "trusted", State: "ready"}, control.Peer{ID: "X", Name: "work shop", Trust: "trusted", State: "ready"})
			agent.b.Inbox = []control.InboxItem{{ID: "3f2a00112233", Kind: "transfer", PeerName: "$(touch pwned)"}}
			agent.b.Listings = []control.Listing{
				{Shares: []control.RemoteShare{{Name: "holiday; photos", Files: 7}, {Name: "plans"}}},
				{Share: "holiday; photos", Entries: []control.ShareEntry{{Name: "2025 $(touch pwned)", Kind: "folder"}, {Name: "x.jpg", Kind: "file"}}},
				{Share: "holiday; photos", Path: "2025 $(touch pwned)", Entries: []control.ShareEntry{{Name: "at the sea", Kind: "folder"}, {Name: "notes", Kind: "file"}}},
				{Share: "holiday; photos", Path: "2025 $(touch pwned)/at the sea", Entries: []control.ShareEntry{{Name: "I & you.jpg", Kind: "file", Size: 3}, {Name: "Other.jpg", Kind: "file"}}},
			}
			s := startShell(t, name, socket)
			path := control.GetRequest{Share: "holiday; photos", Path: "2025 $(touch pwned)/at the sea/I & you.jpg"}
			ana, shop := path, path
			ana.Device, shop.Device = "Ana's laptop", "work shop"
			ended := control.Error{Code: control.CodeFailed, Message: "enough"}
			agent.b.Fail = map[string]*control.Error{"Get": &ended, "Send": &ended}
			if err := os.WriteFile(filepath.Join(s.home, "a;touch pwned2;b.txt"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for keys, want := range map[string]struct {
				call string
				with any
			}{
				"nigh get An\tho\t20\tat\tI\t":               {"Get", ana},
				"nigh get \"An\tho\t20\tat\tI\t":             {"Get", ana},
				"nigh get 'wo\tho\t20\tat\tI\t":              {"Get", shop},
				"nigh get --into /x wo\tho\t20\tat\tI\t":     {"Get", control.GetRequest{Device: shop.Device, Share: shop.Share, Path: shop.Path, Into: "/x"}},
				"nigh refu\t3f\t":                            {"Refuse", "3f2a00112233"},
				"nigh send 'a;touch pwned2;b.txt' --to wo\t": {"Send", control.SendRequest{Paths: []string{filepath.Join(s.home, "a;touch pwned2;b.txt")}, To: []string{"work shop"}}},
				"nigh send a\t--to=wo\t":                     {"Send", control.SendRequest{Paths: []string{filepath.Join(s.home, "a;touch pwned2;b.txt")}, To: []string{"work shop"}}},
			} {
				line := s.complete(keys)
				s.run("")
				raw, err := json.Marshal(want.with)
				if err != nil {
					t.Fatal(err)
				}
				if calls := agent.b.calls(); !strings.HasSuffix(calls, want.call+" "+string(raw)+"\n") {
					lines := strings.Split(calls, "\n")
					t.Errorf("%q is completed as %q, and the agent was asked:\n%s\nwant\n%s", keys, line, lines[max(0, len(lines)-2)], want.call+" "+string(raw))
				}
			}
			s.nothingRan()
		})
	}
}

// nothingRan looks for what the names would have made.
func (s *shell) nothingRan() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.home, "pwned*"))
	if err != nil || len(files) > 0 {
		s.t.Errorf("a name was run: %v, %v", files, err)
	}
}
