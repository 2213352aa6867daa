package tui

import "testing"

// A row that is sought is selected when it comes, but not once the person has moved on; the selection stays on its row until then.
func TestListSeek(t *testing.T) {
	l := list{}
	l.set([]string{"old", "older"})
	l.seek("new")
	l.set([]string{"old", "older"})
	if l.key != "old" {
		t.Errorf("before it comes: %q", l.key)
	}
	l.set([]string{"new", "old", "older"})
	if l.key != "new" || l.at != 0 {
		t.Errorf("when it comes: %q, %d", l.key, l.at)
	}
	l.set([]string{"newer", "new", "old"})
	if l.key != "new" || l.at != 1 {
		t.Errorf("when another comes: %q, %d", l.key, l.at)
	}
	l.seek("late")
	l.move(actDown)
	l.set([]string{"late", "newer", "new", "old"})
	if l.key != "old" {
		t.Errorf("after the person has moved: %q", l.key)
	}
}
