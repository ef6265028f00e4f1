package peer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// process is a peer's daemon on a host.
type process struct {
	host *netns.Host
	dir  string // of this instance
	root string // unpacked packages
	cmd  *exec.Cmd
	done chan struct{}
}

// overlays lays the directories of the packages over the system's, so that programs find theirs where they were built to be, and gives them a /run of their
// own. The mount namespace is the one that ip netns exec makes. $0 is where the packages are.
const overlays = `set -e
for d in lib libexec sbin; do
	[ -d "$0/usr/$d" ] || continue
	mkdir -p /usr/$d
	mount -t overlay overlay -o lowerdir="$0/usr/$d:/usr/$d" /usr/$d
done
mount -t tmpfs tmpfs /run
`

// launch runs a shell script, which ends with exec, among the packages in root. The end of the lab stops it.
func launch(h *netns.Host, name, root, script string, env ...string) (*process, error) {
	p := &process{host: h, dir: filepath.Join(h.Dir(), name), root: root, done: make(chan struct{})}
	p.cmd = h.Command(context.Background(), "sh", "-c", overlays+script, root)
	p.cmd.Env = append(os.Environ(), env...)
	out, err := os.Create(filepath.Join(p.dir, "output"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	h.Lab().OnClose(p.Stop)
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exec runs a command where the daemon sees files and the network.
func (p *process) exec(env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(p.cmd.Process.Pid), "-m", "-n"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// log is what files of the instance hold.
func (p *process) log(files ...string) string {
	var b strings.Builder
	for _, f := range files {
		text, _ := os.ReadFile(filepath.Join(p.dir, f))
		b.Write(text)
	}
	return b.String()
}

// Stop ends the daemon, which deletes its SAs first.
func (p *process) Stop() error {
	if p.ended() {
		return nil
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
	return nil
}
