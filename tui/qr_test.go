package tui

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCodeIsRead draws the frame with the code for phones as a picture, the way a terminal does on a dark ground, and has another
// program read the code in it, as a phone's camera would.
func TestCodeIsRead(t *testing.T) {
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Skip("needs the program zbarimg: apt-get install zbar-tools")
	}
	var phone scene
	for _, s := range scenes {
		if s.name == "phone" {
			phone = s
		}
	}
	for _, c := range []struct {
		name    string
		w, h    int
		ascii   bool
		decoded bool // there is room for a code
	}{
		{"80x24", 80, 24, false, true}, {"120x40", 120, 40, false, true}, {"60x16", 60, 16, false, false}, {"80x24 ASCII", 80, 24, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := ""
			phone.play(t, c.ascii, c.w, c.h, func(_ *testing.T, u *ui) { frame = u.text() })
			path := filepath.Join(t.TempDir(), "frame.png")
			if err := os.WriteFile(path, pictureOf(t, frame), 0o600); err != nil {
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

// pictureOf draws the blocks of a frame: cells of 8x16 points, light on dark. Letters are left out.
func pictureOf(t *testing.T, frame string) []byte {
	t.Helper()
	const cw, ch = 8, 16
	lines := strings.Split(frame, "\n")
	img := image.NewGray(image.Rect(0, 0, cw*len([]rune(lines[0])), ch*len(lines)))
	for y, line := range lines {
		for x, r := range []rune(line) {
			for i := range cw * ch {
				top := i/cw < ch/2
				if r == '█' || r == '▀' && top || r == '▄' && !top {
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
