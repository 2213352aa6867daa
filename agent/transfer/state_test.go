package transfer

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// doc.go and the table of transitions say the same.
func TestStatesAreAsDocumented(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for heading, table := range map[string]map[State][]State{"# Receiving": transitions[Receive], "# Sending": transitions[Send]} {
		_, section, ok := strings.Cut(string(text), heading)
		if !ok {
			t.Fatalf("no %s", heading)
		}
		_, section, _ = strings.Cut(section, "when\n")
		section, _, _ = strings.Cut(section, "//\n")
		documented := map[State][]State{}
		for line := range strings.Lines(section) {
			words := strings.Fields(strings.TrimPrefix(line, "//"))
			if len(words) == 0 {
				continue
			}
			from := State(strings.Trim(words[0], "()"))
			if from == "new" {
				from = ""
			}
			for _, w := range words[1:] {
				documented[from] = append(documented[from], State(strings.TrimSuffix(w, ",")))
				if !strings.HasSuffix(w, ",") {
					break
				}
			}
		}
		if !maps.EqualFunc(documented, table, slices.Equal) {
			t.Errorf("%s\ndocumented %v\ntable      %v", heading, documented, table)
		}
	}
}

// No state leads out of an end but where a failed transfer can be gone on with, and every state is reached.
func TestStatesEnd(t *testing.T) {
	for direction, table := range transitions {
		reached := map[State]bool{}
		for _, to := range table {
			for _, s := range to {
				reached[s] = true
			}
		}
		for from, to := range table {
			if from != "" && !reached[from] {
				t.Errorf("%s: %s is never reached", direction, from)
			}
			if from.Ended() && from != Failed {
				t.Errorf("%s: %s leads to %v", direction, from, to)
			}
		}
		for _, s := range []State{Done, Refused, Failed} {
			if !reached[s] {
				t.Errorf("%s: never %s", direction, s)
			}
		}
	}
}

func TestCodes(t *testing.T) {
	for code, err := range byCode {
		if code == "" || Code(err) != code || !errors.Is(fromCode(code), err) {
			t.Errorf("%q is %v", code, err)
		}
	}
	if Code(nil) != "" || Code(os.ErrClosed) != "internal" || !errors.Is(fromCode("\x1b[2J"), ErrProtocol) {
		t.Error("unknown errors and words have no meaning of their own")
	}
}
