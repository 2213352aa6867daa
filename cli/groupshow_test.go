package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"rsc.io/qr"
)

func TestWifiURI(t *testing.T) {
	for _, c := range []struct{ ssid, passphrase, want string }{
		{"DIRECT-ab", "abcdefgh", `WIFI:T:WPA;S:DIRECT-ab;P:abcdefgh;;`},
		{`a;b,c:d"e\f`, "12345678", `WIFI:T:WPA;S:a\;b\,c\:d\"e\\f;P:12345678;;`},
		{"DIRECT-ab", `;;T:nopass;`, `WIFI:T:WPA;S:DIRECT-ab;P:\;\;T\:nopass\;;;`},
	} {
		if got := wifiURI(c.ssid, c.passphrase); got != c.want {
			t.Errorf("wifiURI(%q, %q) = %s, want %s", c.ssid, c.passphrase, got, c.want)
		}
	}
}

// What is drawn is the code: every module at its place, with a whole quiet zone.
func TestHalfBlocksShowTheCode(t *testing.T) {
	code, err := qr.Encode(wifiURI("DIRECT-ab", "abcdefgh"), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, invert := range []bool{false, true} {
		lines := strings.Split(strings.TrimSuffix(halfBlocks(code.Size, code.Black, false, invert), "\n"), "\n")
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
