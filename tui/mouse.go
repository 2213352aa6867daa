package tui

import tea "github.com/charmbracelet/bubbletea"

// bodyAt is the line where the body of a screen begins: below header, tabs and rule.
const bodyAt = 3

// mouse takes the wheel, which moves as the keys up and down do, and clicks, which select a screen or a row. A click
// answers no question.
func (a *app) mouse(m tea.MouseMsg) tea.Cmd {
	if m.Action != tea.MouseActionPress || a.w < minWidth || a.h < minHeight {
		return nil
	}
	move := map[tea.MouseButton]tea.KeyType{tea.MouseButtonWheelUp: tea.KeyUp, tea.MouseButtonWheelDown: tea.KeyDown}[m.Button]
	if l := a.top(); l != nil {
		if move == 0 || l.grace != 0 || l.d.capturing() {
			return nil
		}
		return l.d.key(a, tea.KeyMsg{Type: move})
	}
	talk, inTalk := a.screen().(*messagesScreen)
	switch {
	case !a.st.known:
		return nil
	case move != 0 && inTalk && m.X >= talk.width:
		return talk.scroll(a, map[tea.KeyType]int{tea.KeyUp: 3, tea.KeyDown: -3}[move])
	case a.capturing():
		return nil
	case move != 0:
		return a.key(tea.KeyMsg{Type: move})
	case m.Button != tea.MouseButtonLeft:
		return nil
	case m.Y == 1:
		for i := len(a.screens) - 1; i >= 0; i-- {
			if m.X >= a.tabAt[i] {
				a.tab = i
				break
			}
		}
		return nil
	}
	_, lw := a.wide(a.w)
	if inTalk {
		lw = talk.width
	}
	if m.X < lw && m.Y < a.h-3 {
		a.screen().rows().click(m.Y - bodyAt)
	}
	return nil
}
