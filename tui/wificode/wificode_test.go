package wificode

import (
	"strings"
	"testing"
	"unicode/utf8"

	"rsc.io/qr"
)

func TestURI(t *testing.T) {
	for _, c := range []struct{ ssid, passphrase, want string }{
		{"DIRECT-ab", "abcdefgh", `WIFI:T:WPA;S:DIRECT-ab;P:abcdefgh;;`},
		{`a;b,c:d"e\f`, "12345678", `WIFI:T:WPA;S:a\;b\,c\:d\"e\\f;P:12345678;;`},
		{"DIRECT-ab", `;;T:nopass;`, `WIFI:T:WPA;S:DIRECT-ab;P:\;\;T\:nopass\;;;`},
	} {
		if got := URI(c.ssid, c.passphrase); got != c.want {
			t.Errorf("URI(%q, %q) = %s, want %s", c.ssid, c.passphrase, got, c.want)
		}
	}
}

// FuzzURI reads back what was written: no SSID and no passphrase can end its field, or begin another.
func FuzzURI(f *testing.F) {
	f.Add("DIRECT-ab", "abcdefgh")
	f.Add(`a;b,c:d"e\f`, `;;T:nopass;`)
	f.Add("\\", "\xff\n")
	f.Fuzz(func(t *testing.T, ssid, passphrase string) {
		rest, ok := strings.CutPrefix(URI(ssid, passphrase), "WIFI:T:WPA;S:")
		field := func() string {
			var out strings.Builder
			for i := 0; i < len(rest); i++ {
				switch rest[i] {
				case '\\':
					i++
					if i == len(rest) {
						t.Fatal("it ends with a backslash")
					}
				case ';':
					rest = rest[i+1:]
					return out.String()
				}
				out.WriteByte(rest[i])
			}
			t.Fatal("a field has no end")
			return ""
		}
		if got := field(); !ok || got != ssid {
			t.Errorf("the SSID %q became %q", ssid, got)
		}
		if rest, ok = strings.CutPrefix(rest, "P:"); !ok {
			t.Fatal("no passphrase")
		}
		if got := field(); got != passphrase || rest != ";" {
			t.Errorf("the passphrase %q became %q and %q", passphrase, got, rest)
		}
	})
}

// What is drawn is the code: every module at its place, with a whole quiet zone.
func TestRowsShowTheCode(t *testing.T) {
	code, err := qr.Encode(URI("DIRECT-ab", "abcdefgh"), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, invert := range []bool{false, true} {
		lines, err := Rows(URI("DIRECT-ab", "abcdefgh"), invert)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) != (code.Size+2*quiet+1)/2 {
			t.Fatalf("%d lines for %d modules", len(lines), code.Size)
		}
		for i, line := range lines {
			if n := utf8.RuneCountInString(line); n != code.Size+2*quiet || n > 80 {
				t.Fatalf("line %d has %d characters", i, n)
			}
			x := -quiet
			for _, r := range line {
				for half, drawn := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
					y := 2*i - quiet + half
					inside := x >= 0 && y >= 0 && x < code.Size && y < code.Size
					light := !inside || !code.Black(x, y)
					if y < code.Size+quiet && drawn != (light != invert) {
						t.Fatalf("module %d,%d is drawn: %t, with invert %t", x, y, drawn, invert)
					}
				}
				x++
			}
		}
		if len(lines) > 24 {
			t.Errorf("%d lines do not fit a terminal of 24", len(lines))
		}
	}
}
