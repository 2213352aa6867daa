package tui

import (
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/tui/wificode"
)

// TestPhone shows the whole code and, when asked, the passphrase; both go with the dialog.
func TestPhone(t *testing.T) {
	agent := &fakeAgent{state: sampleState()}
	drive(t, agent, func(u *ui) {
		u.a.th.HalfBlocks = true
		u.press("5", "Q")
		u.expect("This device owns no group that a phone could join. Press c to create one.")
		u.phone()
		u.expectCalls("groups")
		rows, err := wificode.Rows(wificode.URI("DIRECT-Qk-pi5-kitchen", "x7Kq2mPa"), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if !strings.Contains(u.text(), "│ "+row+" ") {
				t.Fatalf("the row %q is missing:\n%s", row, u.text())
			}
		}
		u.expectNot("x7Kq2mPa")
		u.press("v")
		u.expect("x7Kq2mPa")
		u.press("esc")
		u.expectNot("x7Kq2mPa", "▀")
		u.press("Q", "+")
		u.expect("In whole cells the code needs 38 lines and 74 columns", "hidden: v shows it")
		u.press("+", "t")
		u.expect("Type the passphrase on the phone.", "DIRECT-Qk-pi5-kitchen")
		u.press("t", "esc")
		u.press("Q")
		s := sampleStatus()
		u.agent.emit(control.Event{Type: "status", Status: &s})
		u.settle()
		u.expectNot("Let a phone join")
		u.a.th.HalfBlocks = false
		u.phone()
		u.expect("In whole cells the code needs 38 lines and 74 columns")
		u.resize(80, 40)
		u.expectNot("the code needs")
		u.press("t")
		u.expect("Type the passphrase on the phone.")
		u.press("t", "v")
		u.expectNot("Type the passphrase")
	})
}
