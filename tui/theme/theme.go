// Package theme holds how the terminal UI looks: the glyphs it may draw and the
// few text attributes and colours it uses.
//
// Glyphs come in two sets. [Common] has only what both Debian's console fonts
// and the kernel's built-in font can draw, so that the Linux console of a Pi
// shows no empty boxes; [ASCII] is for locales that are not UTF-8. Colours are
// out of the 16 of every terminal and are never the only sign of anything; the
// default foreground and background are never painted.
package theme

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Glyphs is a set of characters to draw with. Each is one column wide.
type Glyphs struct {
	Horizontal, Vertical                       string
	TopLeft, TopRight, BottomLeft, BottomRight string
	Full, Part, Empty                          string // of a bar
	Up, Down                                   string // a file that is sent, received
	Dot                                        string // between words
	Mark                                       string // of the selected row
}

// Common is the default set.
var Common = Glyphs{
	Horizontal: "─", Vertical: "│",
	TopLeft: "┌", TopRight: "┐", BottomLeft: "└", BottomRight: "┘",
	Full: "█", Part: "▒", Empty: "░",
	Up: "↑", Down: "↓",
	Dot: "·", Mark: ">",
}

// ASCII is the set for terminals without UTF-8.
var ASCII = Glyphs{
	Horizontal: "-", Vertical: "|",
	TopLeft: "+", TopRight: "+", BottomLeft: "+", BottomRight: "+",
	Full: "#", Part: "=", Empty: ".",
	Up: "^", Down: "v",
	Dot: "-", Mark: ">",
}

// Allowed is every character beyond ASCII that the UI itself may draw: what the
// Debian console fonts and the kernel's built-in font have in common.
const Allowed = "─│┌┐└┘├┤┬┴┼═║█▒░■•·←↑→↓▲▼«»"

// Background is what is known about the terminal's background.
type Background int

const (
	// Unknown uses only colours that are readable on black and on white.
	Unknown Background = iota
	// Dark may use colours that are readable on black only.
	Dark
	// Light may use colours that are readable on white only.
	Light
)

// BackgroundOf reads the variable COLORFGBG, which some terminals set to
// "FOREGROUND;BACKGROUND". It returns [Unknown] for anything else.
func BackgroundOf(colorFGBG string) Background {
	i := strings.LastIndexByte(colorFGBG, ';')
	if i < 0 {
		return Unknown
	}
	switch colorFGBG[i+1:] {
	case "7", "15":
		return Light
	case "0", "1", "2", "3", "4", "5", "6", "8":
		return Dark
	}
	return Unknown
}

// Style is a set of text attributes.
type Style struct{ ansi.Style }

// Render returns s with the attributes set before it and reset after it. An
// empty style or text is returned as it is.
func (s Style) Render(text string) string {
	if len(s.Style) == 0 || text == "" {
		return text
	}
	return s.Styled(text)
}

// Theme is everything that decides how the UI looks.
type Theme struct {
	Glyphs
	ASCIIOnly  bool // text from outside must be ASCII too
	HalfBlocks bool // '▀' and '▄' can be drawn: QR codes can be half as high
	Linear     bool // no boxes and no bars, and a label before each value
	Console    bool // the terminal is the Linux console, which knows nothing of characters that join

	Plain    Style
	Bold     Style
	Dim      Style // less important
	Selected Style // the selected row
	Accent   Style // bars, the current tab
	Good     Style
	Warn     Style
	Bad      Style
	QR       Style // the modules of a code, the same on every background; empty without colours
}

// Cells returns a style for spaces that makes them light or dark modules of a code. Without colours
// the dark ones have the terminal's background.
func (t *Theme) Cells(light bool) Style {
	if !light {
		return t.QR
	}
	return Style{append(append(ansi.Style{}, t.QR.Style...), ansi.Style{}.Reverse(true)...)}
}

// Coloured reports whether colours are used.
func (t *Theme) Coloured() bool { return len(t.QR.Style) > 0 }

// New returns a theme. Without colour, bold, dim and reverse are still used.
func New(ascii, colour bool, bg Background) *Theme {
	t := &Theme{
		Glyphs:    Common,
		ASCIIOnly: ascii,
		Bold:      Style{ansi.Style{}.Bold()},
		Dim:       Style{ansi.Style{}.Faint()},
		Selected:  Style{ansi.Style{}.Reverse(true)},
		Accent:    Style{ansi.Style{}.Bold()},
		Warn:      Style{ansi.Style{}.Bold()},
		Bad:       Style{ansi.Style{}.Bold()},
	}
	if ascii {
		t.Glyphs = ASCII
	}
	if !colour {
		return t
	}
	fg := func(c ansi.BasicColor) Style { return Style{ansi.Style{}.ForegroundColor(c)} }
	t.QR = Style{ansi.Style{}.ForegroundColor(ansi.BrightWhite).BackgroundColor(ansi.Black)}
	switch bg {
	case Dark:
		t.Accent, t.Good, t.Warn, t.Bad = fg(ansi.Cyan), fg(ansi.Green), fg(ansi.Yellow), fg(ansi.BrightRed)
	case Light:
		t.Accent, t.Good, t.Warn, t.Bad = fg(ansi.Blue), fg(ansi.Blue), fg(ansi.Magenta), fg(ansi.Red)
	default:
		t.Accent, t.Good, t.Warn, t.Bad = fg(ansi.BrightBlue), fg(ansi.BrightBlue), fg(ansi.Magenta), fg(ansi.Red)
	}
	return t
}
