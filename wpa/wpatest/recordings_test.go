package wpatest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suiteOrder is the order in which the steps were recorded. Who owns the group of "both" is decided by lot, so what follows from it
// cannot be said to another supplicant.
var suiteOrder = []string{"start", "find", "owner", "client", "reject", "reject-lifted", "pin", "pin-typed", "wrong-pin", "wrong-pin-then", "insist",
	"autonomous", "invite", "persistent", "reinvoke-owner", "reinvoke-client"}

// TestScenes checks that every scene is in the recordings, and that nothing secret is.
func TestScenes(t *testing.T) {
	a := NewAir(t, 0)
	for name := range scenes {
		if n := len(a.lines(name)); n == 0 {
			t.Errorf("%s: no signal", name)
		}
	}
	n := normalizer{keep: []string{"12345670", "87654325"}}
	for name, s := range a.scripts {
		for _, l := range s {
			again := Line{l.Part, l.Node, l.Kind, l.Path, l.Member, rewrite{text: n.text, blob: n.blob}.values(l.Args)}
			if l.String() != again.String() {
				t.Errorf("%s has something that differs from run to run, or is secret:\n%s", name, l)
			}
		}
	}
}

// TestRecordedCalls says every call of the recordings to scripted supplicants, in the order in which it was said to real ones,
// and compares what they answer: with a reply or which error, with values of the same types under the same keys.
func TestRecordedCalls(t *testing.T) {
	air := NewAir(t, 3)
	programs := map[string]*dbus.Conn{}
	for _, s := range air.Nodes {
		c, err := dbus.Connect(s.Bus.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		programs[s.Name] = c
	}
	said, alike := 0, 0
	for _, step := range suiteOrder {
		script, err := Recording(step)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range script {
			if l.Kind != Call || l.Member == "P2PDevice.Cancel" { // whether there is something to cancel is a matter of milliseconds
				continue
			}
			said++
			want, ok := script.answer(i)
			if !ok {
				continue // the next step has it
			}
			s := air.Nodes[l.Node[0]-'a']
			got := s.ask(programs[l.Node], l)
			if got.Kind != want.Kind || shape(got.Args) != shape(want.Args) {
				t.Errorf("%s: %s\n  is answered %s %s\n  and not     %s %s", l.Part, l, got.Kind, shape(got.Args), want.Kind, shape(want.Args))
				continue
			}
			alike++
		}
	}
	t.Logf("%d of %d calls are answered alike", alike, said)
}

// answer is the answer to the call at a place.
func (s Script) answer(at int) (Line, bool) {
	for _, l := range s[at+1:] {
		if l.Node == s[at].Node && (l.Kind == Reply || l.Kind == Error) && l.Member == s[at].Member && l.Path == s[at].Path {
			return l, true
		}
	}
	return Line{}, false
}

// ask says a recorded call to a supplicant, about the group that it is in.
func (s *Supplicant) ask(program *dbus.Conn, l Line) Line {
	s.air.mu.Lock()
	text := func(_, v string) string { return v }
	r := rewrite{text: s.own(text), blob: func(_ string, b []byte) []byte { return b }}
	path, args := dbus.ObjectPath(r.text("", string(l.Path))), r.values(l.Args)
	s.air.mu.Unlock()
	iface, name := full(l.Member)
	call := program.Object(busName, path).Call(iface+"."+name, 0, args...)
	if e, ok := errors.AsType[dbus.Error](call.Err); ok {
		return Line{Kind: Error, Args: append([]any{e.Name}, e.Body...)}
	}
	return Line{Kind: Reply, Args: call.Body}
}

// shape is the types of values, and of errors the name.
func shape(values []any) string {
	if len(values) > 0 {
		if name, ok := values[0].(string); ok && strings.Contains(name, ".") {
			return name
		}
	}
	return fmt.Sprint(each(values, func(v any) any { return shapeOf(v) }))
}

func shapeOf(v any) string {
	switch v := v.(type) {
	case dbus.Variant:
		return "<" + shapeOf(v.Value()) + ">"
	case map[string]dbus.Variant:
		out := "{"
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out += " " + k + ":" + v[k].Signature().String()
		}
		return out + " }"
	}
	return dbus.SignatureOf(v).String()
}
