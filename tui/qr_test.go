package tui

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestCodeIsRead draws the frame with the code for phones as a picture, the way a terminal does on a dark ground, and has another
// program read the code in it, as a phone's camera would.
func TestCodeIsRead(t *testing.T) {
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Skip("needs the program zbarimg: apt-get install zbar-tools")
	}
	byName := map[string]scene{}
	for _, s := range allScenes() {
		byName[s.name] = s
	}
	for _, c := range []struct {
		name    string
		scene   string
		w, h    int
		ascii   bool
		decoded bool // there is room for a code
	}{
		{"80x24", "phone", 80, 24, false, true}, {"120x40", "phone", 120, 40, false, true}, {"60x16", "phone", 60, 16, false, false},
		{"80x24 ASCII", "phone", 80, 24, true, false}, {"74x38 ASCII", "phone", 74, 38, true, true},
		{"120x40 whole cells", "phone-large", 120, 40, false, true}, {"80x24 whole cells", "phone-large", 80, 24, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := ""
			drawn := ""
			byName[c.scene].play(t, c.ascii, c.w, c.h, func(_ *testing.T, u *ui) { frame, drawn = u.text(), u.a.View() })
			path := filepath.Join(t.TempDir(), "frame.png")
			if err := os.WriteFile(path, pictureOf(t, drawn), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("zbarimg", "-q", "--raw", path).Output()
			if !c.decoded {
				if err == nil || !strings.Contains(frame, "DIRECT-Qk-pi5-kitchen") {
					t.Errorf("read %q; without room for a code the name of the network is what helps:\n%s", out, frame)
				}
				return
			}
			if got, want := strings.TrimSpace(string(out)), "WIFI:T:WPA;S:DIRECT-Qk-pi5-kitchen;P:x7Kq2mPa;;"; err != nil || got != want {
				t.Errorf("read %q, want %q (%v)\n%s", got, want, err, frame)
			}
		})
	}
}

// pictureOf draws the blocks of a frame, and spaces in reverse: cells of 8x16 points, light on dark. Letters are left out.
func pictureOf(t *testing.T, frame string) []byte {
	t.Helper()
	const cw, ch = 8, 16
	lines := strings.Split(frame, "\n")
	img := image.NewGray(image.Rect(0, 0, cw*width(lines[0]), ch*len(lines)))
	for y, line := range lines {
		x, reverse := -1, false
		for rest := line; rest != ""; {
			if rest[0] == 0x1b {
				attributes, after, _ := strings.Cut(rest[2:], "m")
				reverse = slices.Contains(strings.Split(attributes, ";"), "7")
				rest = after
				continue
			}
			r, n := utf8.DecodeRuneInString(rest)
			rest = rest[n:]
			x++
			for i := range cw * ch {
				top := i/cw < ch/2
				if r == '█' || r == ' ' && reverse || r == '▀' && top || r == '▄' && !top {
					img.SetGray(x*cw+i%cw, y*ch+i/cw, color.Gray{Y: 255})
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
