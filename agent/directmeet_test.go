package agent

import "testing"

// Of two groups that meet exactly one ends, and both sides agree which.
func TestMeetingsAgree(t *testing.T) {
	small, large := someID(1), someID(2)
	for _, c := range []struct {
		name string
		a, b meeting
		ends string
	}{
		{"more members", meeting{3, large}, meeting{2, small}, "b"},
		{"as many", meeting{2, small}, meeting{2, large}, "b"},
		{"as many, the other way round", meeting{2, large}, meeting{2, small}, "a"},
		{"one does not say", meeting{0, small}, meeting{7, large}, "b"},
		{"neither says", meeting{0, large}, meeting{0, small}, "a"},
	} {
		a, b := c.a.yields(c.b), c.b.yields(c.a)
		if a == b || a != (c.ends == "a") {
			t.Errorf("%s: a yields %t, b yields %t", c.name, a, b)
		}
	}
	if m := (meeting{2, small}); m.yields(m) {
		t.Error("a group yields to itself")
	}
}
