package radio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"nigh/lab/vm"
)

// ErrNoTree says that the guest was booted without a tree that is needed.
var ErrNoTree = errors.New("the guest has no such tree: boot it with lab test -tree NAME")

// enterTree lays the programs and libraries of a tree over those of the guest, in a mount namespace of the program's own, so
// that it finds its own libraries, plug-ins and helpers where its package put them, and everything else where it always is.
// /etc, /var and /run stay the guest's: where a package has files there, they are below [vm.TreesFolder]. The process
// identifier stays the same throughout.
const enterTree = `mount -t overlay -o "lowerdir=$0/usr:/usr" tree /usr && exec "$@"`

// TreeCommand is [Node.Command] with a program of a tree of nigh/lab/vm that the guest was booted with. An error in laying out
// the tree shows as the command's.
func (n *Node) TreeCommand(ctx context.Context, tree, name string, arg ...string) *exec.Cmd {
	inTree := []string{"-m", "sh", "-c", enterTree, treeFolder(tree), name}
	return n.Command(ctx, "unshare", append(inTree, arg...)...)
}

// TreeFolder is where the guest sees a tree. The error is ErrNoTree when it does not.
func TreeFolder(tree string) (string, error) {
	folder := treeFolder(tree)
	if _, err := os.Stat(filepath.Join(folder, "usr")); err != nil {
		return "", fmt.Errorf("radio: %s: %w", tree, ErrNoTree)
	}
	return folder, nil
}

func treeFolder(tree string) string { return filepath.Join(vm.TreesFolder, tree) }
