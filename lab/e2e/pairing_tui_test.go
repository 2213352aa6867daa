package e2e_test

import (
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"nigh/agent/control"
	"nigh/lab/node"
)

// screen is the terminal UI of an agent on a pseudo terminal.
type screen struct {
	t    *testing.T
	name string
	keys io.Writer
	pid  int

	mu      sync.Mutex
	text    string          // what was written, without escapes; guarded by mu
	raw     strings.Builder // what was written; guarded by mu
	changed chan struct{}   // closed and replaced at each write; guarded by mu
}

var escapes = regexp.MustCompile("\x1b(\\[[0-9;?]*[a-zA-Z]|\\][^\x07\x1b]*(\x07|\x1b\\\\)|[=>])")

// tui opens the terminal UI.
func tui(t *testing.T, a *node.Agent, name string) *screen {
	t.Helper()
	return terminal(t, a, name)
}

// terminal runs nigh on a terminal, with arguments or as the terminal UI.
func terminal(t *testing.T, a *node.Agent, name string, args ...string) *screen {
	t.Helper()
	s := &screen{t: t, name: name, changed: make(chan struct{})}
	cmd := a.Command(t.Context(), a.Binary, args...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "NIGH_SOCKET="+a.Socket, "HOME="+a.Dir, "TERM=xterm", "LC_ALL=C.UTF-8", "NO_COLOR=1")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	s.keys, s.pid = terminal, cmd.Process.Pid
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			s.mu.Lock()
			s.raw.Write(buf[:n])
			s.text += escapes.ReplaceAllString(string(buf[:n]), "")
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
			if err != nil {
				return // the program has ended
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = terminal.Close()
		<-read
	})
	return s
}

// all returns everything that was written, as it was.
func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// press sends keys as a terminal does.
func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// shows waits until the pattern was drawn since from, and returns its first group and
// how much was written then. Every 700 ms it presses again, unless that is "".
func (s *screen) shows(from int, pattern, again string) (found string, at int) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		text, changed := s.text, s.changed
		s.mu.Unlock()
		if m := re.FindStringSubmatch(text[from:]); m != nil {
			return m[len(m)-1], len(text)
		}
		select {
		case <-changed:
		case <-tick.C:
			if again != "" {
				s.press(again)
			}
		case <-deadline:
			s.t.Fatalf("%s does not show %q but\n%s", s.name, pattern, text[from:])
		}
	}
}

const sixDigits = `(\d \d \d   \d \d \d)`

// TestPairInTwoTerminals pairs by the keys of the terminal UI on both sides. Bob has two
// windows open: both ask, one answers, and the other follows.
func TestPairInTwoTerminals(t *testing.T) {
	ada, bob := strangers(t)
	atAda, first, second := tui(t, ada, "ada's window"), tui(t, bob, "bob's first window"), tui(t, bob, "bob's second window")
	_, n := atAda.shows(0, `bob +new`, "")
	first.shows(0, `ada +new`, "")
	second.shows(0, `ada +new`, "")
	atAda.press("p")
	_, n = atAda.shows(n, `comparing a code on both`, "")
	atAda.press("\r")
	code, n := atAda.shows(n, sixDigits, "")
	for _, s := range []*screen{first, second} {
		if got, _ := s.shows(0, sixDigits, ""); got != code {
			t.Errorf("%s shows %q, ada %q", s.name, got, code)
		}
	}
	if q := pairQuestion(t, bob); strings.ReplaceAll(code, " ", "") != q.Code {
		t.Errorf("the inbox has %q, the windows %q", q.Code, code)
	}
	// A key counts only after a moment of quiet, since nobody asked for the question here.
	_, _ = first.shows(0, `You said yes`, "y")
	_, _ = second.shows(0, `You said yes`, "")
	atAda.press("y")
	atAda.shows(n, `Paired with bob`, "")
	first.shows(0, `Paired with ada`, "")
	second.shows(0, `Paired with ada`, "")
	bothTrust(t, ada, bob)
}

// TestPairRefusedInATerminal: enter is the safe answer, and the other side says what
// happened.
func TestPairRefusedInATerminal(t *testing.T) {
	ada, bob := strangers(t)
	window := tui(t, bob, "bob's window")
	window.shows(0, `ada +new`, "")
	asking := began(t, ada, "", "pair", "bob")
	_, n := window.shows(0, sixDigits, "")
	window.shows(n, `Not paired with ada; nothing is trusted`, "\r")
	if d := ask(t, ada, "", "accept", "pair-"); d.code == 0 {
		t.Errorf("accepting what is over: %+v", d)
	}
	if d := <-asking; d.code != 3 || !strings.Contains(d.errs, "said no") {
		t.Errorf("ada: %+v", d)
	}
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if trusts(t, w.on, w.who) {
			t.Errorf("%s trusts %s", w.on.Name, w.who)
		}
		if err := w.on.Await(within(t, 10*time.Second), func(s control.State) bool { return len(s.Inbox) == 0 }); err != nil {
			t.Error(err)
		}
	}
}

// TestPairOnTheCommandLine pairs by the command line on both sides: one compares and answers at the prompt, the other by nigh
// inbox and nigh accept. At the prompt nothing but yes is yes.
func TestPairOnTheCommandLine(t *testing.T) {
	ada, bob := strangers(t)
	window := terminal(t, ada, "ada's command", "pair", "bob")
	window.shows(0, `Are the two codes the same\? \[y/N\]`, "")
	pairQuestion(t, bob)
	window.press("\r")
	window.shows(0, `cancelled here; nothing is trusted`, "")
	trustsNobody(t, ada, bob)
	if err := bob.Await(within(t, 30*time.Second), func(s control.State) bool { return len(s.Inbox) == 0 }); err != nil {
		t.Fatal(err)
	}
	// After a no bob is not asked by ada for a while; its user may begin.
	window = terminal(t, bob, "bob's command", "pair", "ada")
	shown, _ := window.shows(0, `(\d{3} \d{3})`, "")
	q := pairQuestion(t, ada)
	list := ask(t, ada, "", "inbox")
	if !strings.Contains(list.out, shown) || q.Code != strings.ReplaceAll(shown, " ", "") {
		t.Errorf("bob's command shows %q, ada's inbox %+v", shown, list)
	}
	window.shows(0, `\[y/N\]`, "")
	window.press("yes\r")
	window.shows(0, `waiting for the answer of ada`, "")
	trustsNobody(t, ada, bob)
	if d := ask(t, ada, "", "accept", q.ID); d.code != 0 {
		t.Errorf("accept: %+v", d)
	}
	window.shows(0, `paired with ada`, "")
	bothTrust(t, ada, bob)
}

// TestPairWithAHeadlessDevice types the setup code of a device that nobody sits at into the terminal UI: first a mistyped one,
// which is found at once, then another device's, then the right one. Then it shows this device's own code, and makes a new one.
func TestPairWithAHeadlessDevice(t *testing.T) {
	ada, bob := strangers(t)
	code := strings.TrimSpace(ask(t, bob, "", "setup-code").out)
	wrong := strings.TrimSpace(ask(t, ada, "", "setup-code").out)
	window := tui(t, ada, "ada's window")
	_, at := window.shows(0, `bob +new`, "")
	window.press("p")
	_, at = window.shows(at, `comparing a code on both`, "")
	window.press("\x1b[C") // right: the other way
	_, at = window.shows(at, `its setup code`, "")
	window.press("\t" + code[:len(code)-3])
	window.press("\r")
	_, at = window.shows(at, `not a setup code`, "")
	window.press("\x15" + wrong) // ctrl+u: the line anew
	window.press("\r")
	_, at = window.shows(at, `not the setup code of`, "")
	trustsNobody(t, ada, bob)
	window.press("\x1b")
	_, at = window.shows(at, `bob +new`, "")
	window.press("p")
	_, at = window.shows(at, `comparing a code on both`, "")
	window.press("\x1b[C")
	_, at = window.shows(at, `its setup code`, "")
	window.press("\t" + strings.ToLower(code))
	window.press("\r")
	_, at = window.shows(at, `Paired with bob`, "")
	bothTrust(t, ada, bob)
	// A key counts only after a moment of quiet; n means nothing on the screen below.
	_, at = window.shows(at, `Let it send without asking`, "")
	_, at = window.shows(at, `enter send +m message`, "n")
	window.press("o")
	_, at = window.shows(at, wrong, "") // ada's own
	window.press("n")
	_, at = window.shows(at, `Make a new code`, "")
	window.press("y")
	fresh, _ := window.shows(at, `((?:[A-Z2-7]{4}-){4}[A-Z2-7])`, "")
	if now := strings.TrimSpace(ask(t, ada, "", "setup-code").out); fresh != now || fresh == wrong {
		t.Errorf("the window shows %q, the command %q; before it was %q", fresh, now, wrong)
	}
	if inbox, err := bob.Client().Inbox(t.Context()); err != nil || len(inbox) != 0 {
		t.Errorf("bob was asked: %+v, %v", inbox, err)
	}
}
