// Command shots takes pictures of the terminal UI in a real terminal: xterm on a
// virtual X server, once on a dark and once on a light background. Each picture
// is the UI itself (tui.Run with its own client) on the socket of a control
// server whose agent is made up, so that the pictures are the same every time.
//
//	go run ./lab/cmd/shots [-o FOLDER] [-only REGEXP] [-ground dark|light] [-size SIZES]
//
// It needs Debian's xvfb, xterm, imagemagick, xdotool and fonts-dejavu-core, and
// installs them through .ci/packages when they are missing. Every process that
// it starts has ended when it ends.
package main
