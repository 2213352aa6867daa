package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"nigh/agent/control"
	"nigh/lab"
)

// evil is a text that moves the cursor, sets the title, writes to the clipboard, makes a link, rings, overwrites its line, and
// hides and reorders what is around it. tag tells where it came from.
func evil(tag string) string {
	return tag + "\x1b[66;77H\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\\u009b5m\r\u202egpj\u200b\u2066\ufeff\x00"
}

// shownAs is how the beginning of evil text looks where it is escaped.
const shownAs = `\x1b[66;77H`

// acts returns the first character of a text that could act on a terminal, or hide or reorder the text around it; line breaks
// and tabs are the program's own.
func acts(text string) string {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Sprintf("byte %#x", text[i])
		case r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)):
			return fmt.Sprintf("%U at %q", r, text[max(0, i-20):min(len(text), i+20)])
		}
		i += size
	}
	return ""
}

// ownSequences are those that the terminal UI draws with, whatever they do; those of the hostile text are looked for by themselves.
var ownSequences = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\x07|\b")

// hostileHolder answers everything that this device asks with hostile text.
type hostileHolder struct{ *stranger }

func (h hostileHolder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v1/hello":
		h.hello(w, evil("device"))
	case r.URL.Path == "/v1/offer":
		say(w, http.StatusForbidden, map[string]any{"code": "refused", "reason": evil("reason")})
	case r.URL.Path == "/v1/shares":
		say(w, http.StatusOK, map[string]any{"shares": []any{map[string]any{"name": evil("share"), "state": "ready"}}})
	case r.URL.Path == "/v1/msg":
		say(w, http.StatusBadRequest, map[string]any{"code": evil("code"), "message": evil("words")})
	case strings.HasPrefix(r.URL.Path, "/v1/pair/"):
		say(w, http.StatusTeapot, map[string]any{"code": evil("code"), "reason": evil("words")})
	default:
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(evil("body")))
	}
}

// TestHostileTextActsOnNoScreen has a device say text that acts on terminals wherever the protocol has room for text: in its
// announcement, its name, its offers, messages, refusals and errors. Everything that the program writes then, on every command,
// on the frames of the terminal UI, in JSON and in the log, shows it escaped, and has nothing that acts.
func TestHostileTextActsOnNoScreen(t *testing.T) {
	if acts(evil("x")) == "" || acts(`x`+shownAs) != "" {
		t.Fatal("the measure does not tell hostile text from escaped text")
	}
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hm := n.Host("ada"), n.Host("mallory")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hm, "eth0", "10.0.0.66/24")
	ada := start(t, ha, "ada")
	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(status.Agent.Port))
	m := newStranger(t, hm)
	m.announce("\x1b[66;77H\x1b]0;owned\x07\u202e", m.id.Short(), m.serve(netip.MustParseAddr("10.0.0.66"), hostileHolder{m}))
	if err := ada.Await(within(t, 30*time.Second), func(s control.State) bool {
		return len(s.Peers) == 1 && s.Peers[0].State == "visible"
	}); err != nil {
		t.Fatal(err)
	}
	window := tui(t, ada, "ada's window")
	window.shows(0, regexp.QuoteMeta("device"+shownAs), "")

	// What the CLI writes; want is a tag of the hostile text that has to be there, or "".
	check := func(want string, args ...string) {
		t.Helper()
		out, errs, _ := ada.Run(within(t, 30*time.Second), args...)
		for where, text := range map[string]string{"standard output": out, "standard error": errs} {
			if bad := acts(text); bad != "" {
				t.Errorf("nigh %s: %s has %s", strings.Join(args, " "), where, bad)
			}
		}
		if all := out + errs; want != "" && !strings.Contains(strings.ReplaceAll(all, `\\x1b`, `\x1b`), want+shownAs) {
			t.Errorf("nigh %s does not show what was said as %q: %s", strings.Join(args, " "), want, all)
		}
		if args[len(args)-1] == "--json" && !json.Valid([]byte(out)) {
			t.Errorf("nigh %s: no JSON: %q", strings.Join(args, " "), out)
		}
	}

	l, err := m.dial(within(t, 20*time.Second), netip.Addr{}, at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	nonce := random32()
	sum := sha256.New()
	for _, part := range [][]byte{[]byte("nigh-pair-v1"), nonce[:], m.id[:], l.peer[:], l.binding[:]} {
		sum.Write(part)
	}
	commitment := [32]byte(sum.Sum(nil))
	if s, a := l.ask("POST", "/v1/pair/commit", map[string]any{"v": 1, "name": evil("pairing"), "commitment": word(commitment)}); s != http.StatusOK {
		t.Fatalf("commit: %d %v", s, a)
	}
	if s, a := l.ask("POST", "/v1/pair/reveal", map[string]any{"nonce": word(nonce)}); s != http.StatusOK {
		t.Fatalf("reveal: %d %v", s, a)
	}
	question := pairQuestion(t, ada)
	_, drawn := window.shows(0, "wants to pair", "")
	check("", "inbox")
	check("", "inbox", "--json")
	check("", "refuse", question.ID)
	_, drawn = window.shows(drawn, "nothing is trusted", "")

	// As a device whose key the user trusts, under the name that it says.
	check("", "trust", "add", m.id.String())
	if err := ada.Await(within(t, 30*time.Second), func(s control.State) bool {
		return len(s.Peers) == 1 && s.Peers[0].Trust == "trusted" && s.Peers[0].State == "ready"
	}); err != nil {
		t.Fatal(err)
	}
	text := evil("message")
	if s, a := l.ask("POST", "/v1/msg", map[string]any{"v": 1, "id": fmt.Sprintf("%032x", 1), "text": strings.ReplaceAll(text, "\x00", "")}); s != http.StatusOK {
		t.Fatalf("msg: %d %v", s, a)
	}
	offer := func(x int, label, name string, skipped ...string) int {
		s, _ := l.ask("POST", "/v1/offer", map[string]any{
			"v": 1, "x": fmt.Sprintf("%032x", x), "label": label, "manifest_root": strings.Repeat("ab", 32), "manifest_bytes": 20,
			"files": 1, "bytes": 5, "tops": 1, "names": []string{name}, "skipped": map[string]any{"names": 1, "examples": skipped},
		})
		return s
	}
	if s := offer(1, evil("label"), "name", evil("skipped")); s != http.StatusAccepted {
		t.Fatalf("offer: %d", s)
	}
	if s := offer(2, "label", evil("name")); s/100 != 4 {
		t.Errorf("an offer with a name that acts: %d", s)
	}
	if err := ada.Await(within(t, 30*time.Second), func(s control.State) bool {
		return len(s.Inbox) == 1 && s.Inbox[0].Kind == "transfer" && len(s.Messages) == 1
	}); err != nil {
		t.Fatal(err)
	}
	// The dialog of the pairing that failed is closed; that of the offer opens.
	_, drawn = window.shows(drawn, "Incoming files", "\x1b")
	note := filepath.Join(t.TempDir(), "note")
	random(t, note, 10)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"device", []string{"peers"}}, {"device", []string{"peers", "--json"}}, {"device", []string{"trust", "list"}}, {"device", []string{"trust", "list", "--json"}},
		{"message", []string{"messages"}}, {"message", []string{"messages", "--json"}}, {"label", []string{"inbox"}}, {"label", []string{"inbox", "--json"}},
		{"label", []string{"transfers"}}, {"label", []string{"transfers", "--json"}}, {"", []string{"status"}}, {"", []string{"status", "--json"}},
		{"device", []string{"send", note, "--to", m.id.Short(), "--wait"}}, {"reason", []string{"transfers"}}, {"reason", []string{"transfers", "--json"}},
		{"", []string{"msg", "hello", "--to", m.id.Short()}}, {"device", []string{"browse", m.id.Short()}}, {"", []string{"browse", m.id.Short() + ":share"}},
		{"", []string{"get", m.id.Short() + ":share/x"}}, {"", []string{"search", "x"}}, {"", []string{"pair", m.id.Short()}}, {"", []string{"doctor"}},
	} {
		check(c.want, c.args...)
	}
	inbox, err := ada.Client().Inbox(t.Context())
	if err != nil || len(inbox) != 1 {
		t.Fatalf("inbox: %+v, %v", inbox, err)
	}
	check("", "refuse", inbox[0].ID) // and its dialog closes
	for _, screen := range []struct{ key, shows string }{{"2", `label\x1`}, {"3", "message" + shownAs}, {"4", "SHARED HERE"}, {"5", "LINK"}, {"6", `"pairing\\x1b`}, {"1", "device" + shownAs}} {
		_, drawn = window.shows(drawn, regexp.QuoteMeta(screen.shows), screen.key)
	}
	frames := window.all()
	if bad := acts(ownSequences.ReplaceAllString(frames, "")); bad != "" {
		t.Errorf("the terminal UI wrote %s", bad)
	}
	for _, mine := range []string{"\x1b[66;77H", "\x1b]"} {
		if strings.Contains(frames, mine) {
			t.Errorf("the terminal UI wrote %q", mine)
		}
	}
	log, err := os.ReadFile(ada.Log)
	if err != nil {
		t.Fatal(err)
	}
	if bad := acts(string(log)); bad != "" {
		t.Errorf("the log has %s", bad)
	}
	if !strings.Contains(string(log), "66;77H") {
		t.Error("nothing hostile reached the log, so its escaping is not shown")
	}
}
