package tui

import (
	"testing"

	"nigh/agent/control"
)

// TestOwnCode shows this device's setup code, and makes a new one when that was confirmed; both go with the dialog.
func TestOwnCode(t *testing.T) {
	agent := &fakeAgent{state: sampleState(), code: control.SetupCode{Code: "7Q4K-M2XD-PL9A-TT3C-V", Locked: 59.2, Wrong: 3}}
	drive(t, agent, func(u *ui) {
		u.expectNot("7Q4K-M2XD-PL9A")
		u.press("o")
		u.expectCalls("setup code new:false")
		u.expect("7Q4K-M2XD-PL9A-TT3C-V", "No code is taken for", "after 3 wrong ones")
		u.press("n", "enter") // no is the safe answer
		u.expect("7Q4K-M2XD-PL9A-TT3C-V")
		u.expectCalls()
		u.press("n", "y")
		u.expect("NEW4-NEW4-NEW4-NEW4-N")
		u.expectNot("7Q4K-M2XD-PL9A", "No code is taken")
		u.expectCalls("setup code new:true")
		u.press("esc")
		u.expectNot("NEW4")
	})
}
