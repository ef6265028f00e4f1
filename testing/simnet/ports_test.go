package simnet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// another is a connection between the same hosts for other subnets.
func another(tcp policy.TCPMode) *policy.Connection {
	c := Connection(tcp)
	c.Name, c.Children[0].Name = "west-east-2", "west-east-2"
	left, right := subnet("192.0.11.0/24"), subnet("192.0.12.0/24")
	c.Left.Subnets, c.Right.Subnets, c.Children[0].Left, c.Children[0].Right = left, right, left, right
	return c
}

// paths are those of the IKE SAs, by connection.
func (n *Node) paths() string {
	var out []string
	for _, s := range n.Snapshots() {
		local := fmt.Sprint(s.Path.Local.Port())
		if s.Path.Kind.Stream() && s.Initiator {
			local = "any"
		}
		out = append(out, fmt.Sprintf("%s %s %s-%d", s.Conn, s.Path.Kind, local, s.Path.Remote.Port()))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (n *Node) ports() (list []uint16) {
	n.Host.mu.Lock()
	defer n.Host.mu.Unlock()
	for p := range n.Host.opened {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// TestOwnPorts: a connection with leftikeport= or rightikeport= begins on the ports that follow from them and stays there, beside one between the same hosts, which
// goes from 500 to 4500 as ever. ESP goes in UDP.
func TestOwnPorts(t *testing.T) {
	for name, tc := range map[string]struct {
		left, right uint16
		tcp         policy.TCPMode
		remotePort  uint16
		want        string
	}{
		"ours":         {left: 7000, want: "UDP 7000-4500"},
		"theirs":       {right: 7001, want: "UDP 4500-7001"},
		"both":         {left: 7000, right: 7001, want: "UDP 7000-7001"},
		"natt":         {left: 4500, want: "UDP 4500-4500"},
		"tcp":          {right: 7001, tcp: policy.TCPYes, want: "TCP any-7001"},
		"tcp_for_ours": {left: 7000, tcp: policy.TCPYes, want: "TCP any-4500"},
		"remoteport":   {right: 7001, tcp: policy.TCPYes, remotePort: 7001, want: "TCP any-7001"},
	} {
		t.Run(name, func(t *testing.T) {
			plain, own := Connection(policy.TCPNo), another(tc.tcp)
			own.Left.IKEPort, own.Right.IKEPort, own.TCP.RemotePort = tc.left, tc.right, tc.remotePort
			set := Set(plain)
			set.Connections = append(set.Connections, own)
			inWorld(t, 1, fine, plain, func(t *testing.T, w *World) {
				for _, n := range []*Node{w.West, w.East} {
					n.load(t, set)
				}
				w.West.bring(t, plain.Name, own.Name)
				time.Sleep(time.Second)
				w.agreed(t, 2)
				for _, p := range w.West.Datapath.Pairs() { // on ports of one's own there is no plain ESP
					if own := p.Policy == "west-east-2"; own && tc.left != 4500 && p.Endpoints.Path.Kind == path.ESP {
						t.Errorf("ESP of %s goes by %s", p.Policy, p.Endpoints.Path)
					}
				}
				if got, want := w.West.paths(), "west-east UDP 4500-4500, west-east-2 "+tc.want; got != want {
					t.Errorf("paths %q, want %q", got, want)
				}
				w.West.end(t, own.Name)
				if tc.remotePort != 0 { // it is written for one direction
					return
				}
				w.East.bring(t, own.Name)
				time.Sleep(time.Second)
				w.agreed(t, 2)
			})
		})
	}
}

// TestOwnPortIsOfItsConnections: who comes to a port that a connection has for itself meets that one and no other, and elsewhere it is not met.
func TestOwnPortIsOfItsConnections(t *testing.T) {
	for name, tc := range map[string]struct {
		west, east uint16 // what each takes for the port of east
		ok         bool
		told       string
	}{
		"same":      {7001, 7001, true, ""},
		"elsewhere": {0, 7001, false, `is for peers that come to port 7001 here`},
	} {
		t.Run(name, func(t *testing.T) {
			west, east := Connection(policy.TCPNo), Connection(policy.TCPNo)
			west.Right.IKEPort, east.Right.IKEPort = tc.west, tc.east
			west.Retransmit.Timeout = 3 * time.Second
			inBubble(t, 1, fine, 1, func(t *testing.T, w *World) {
				w.West.load(t, Set(west))
				w.East.load(t, Set(east))
				_, err := w.West.up(t)
				if (err == nil) != tc.ok {
					t.Errorf("up: %v", err)
				}
				if said := texts(w.East.Said()); !strings.Contains(said, tc.told) {
					t.Errorf("east says\n%s", said)
				}
			})
		})
	}
}

// TestOwnPortsComeAndGo: a port is open for as long as a connection wants it.
func TestOwnPortsComeAndGo(t *testing.T) {
	first, second := Connection(policy.TCPNo), another(policy.TCPNo)
	first.Left.IKEPort, second.Left.IKEPort = 7000, 7000
	set := Set(first)
	inBubble(t, 1, fine, 1, func(t *testing.T, w *World) {
		open := func(want ...uint16) {
			t.Helper()
			if got := w.West.ports(); !slices.Equal(got, want) {
				t.Errorf("open: %v, want %v", got, want)
			}
		}
		w.West.load(t, set)
		w.East.load(t, set)
		open(7000)
		if got := w.East.ports(); len(got) > 0 {
			t.Errorf("the peer's port is open here: %v", got)
		}
		if err := w.West.Engine.Add(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		w.West.bring(t, first.Name)
		if err := w.West.Engine.Delete(t.Context(), first.Name); err != nil {
			t.Fatal(err)
		}
		open(7000)
		w.none(t)
		if err := w.West.Engine.Delete(t.Context(), second.Name); err != nil {
			t.Fatal(err)
		}
		open()
		changed := Connection(policy.TCPNo)
		changed.Left.IKEPort = 7002
		w.West.load(t, set)
		w.West.load(t, Set(changed))
		open(7002)
	})
}

// TestOwnPortIsTaken: a port that another program holds is an error of its connection alone, which `up` looks at again.
func TestOwnPortIsTaken(t *testing.T) {
	plain, own := Connection(policy.TCPNo), another(policy.TCPNo)
	own.Left.IKEPort, own.Left.Positions = 7000, map[string]string{"leftikeport": "ipsec.conf:9"}
	set := Set(plain)
	set.Connections = append(set.Connections, own)
	inBubble(t, 1, fine, 1, func(t *testing.T, w *World) {
		w.West.Host.busy[7000] = true
		for _, n := range []*Node{w.West, w.East} {
			n.load(t, set)
		}
		time.Sleep(time.Second)
		const want = "the port of leftikeport= of ipsec.conf:9 cannot be had: address already in use"
		if said := texts(w.West.Said()); !strings.Contains(said, want) {
			t.Errorf("west says\n%s", said)
		}
		err := w.West.Engine.Up(t.Context(), own.Name, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("up: %v", err)
		}
		w.West.bring(t, plain.Name)
		w.agreed(t, 1)
		w.West.Host.busy[7000] = false
		w.West.bring(t, own.Name)
		w.agreed(t, 2)
	})
}

// TestApartOnTheOtherSide: two connections that west has on one IKE SA differ in their datapath on east, and so they get two.
func TestApartOnTheOtherSide(t *testing.T) {
	first, second := Connection(policy.TCPYes), another(policy.TCPYes)
	west := Set(first)
	west.Connections = append(west.Connections, second)
	theirs := another(policy.TCPYes)
	theirs.Backend = policy.BackendUserspace
	east := Set(first)
	east.Connections = append(east.Connections, theirs)
	for _, order := range [][]string{{first.Name, second.Name}, {second.Name, first.Name}} {
		inBubble(t, 1, fine, 1, func(t *testing.T, w *World) {
			w.West.load(t, west)
			w.East.load(t, east)
			w.West.bring(t, order...)
			time.Sleep(time.Minute)
			w.agreed(t, 2)
			if n := len(w.West.Snapshots()); n != 2 {
				t.Errorf("%d IKE SAs, want one for each", n)
			}
			for _, p := range w.East.Datapath.Pairs() {
				if userspace := p.Policy == "west-east-2"; userspace != (p.Endpoints.Backend == kernel.BackendUserspace) {
					t.Errorf("%s asks for %s", p.Policy, p.Endpoints.Backend)
				}
			}
			w.shutdown(t)
		})
	}
}
