package policy

import "fmt"

// Where names the line that sets a keyword of a connection, for messages: "ike= of ipsec.conf:12".
func (c *Connection) Where(keyword string) string {
	if p := c.Positions[keyword]; p != "" {
		return keyword + "= of " + p
	}
	return fmt.Sprintf("default %s= of the connection at %s", keyword, c.Position)
}

// Where names the line that sets a keyword of config setup, for messages.
func (s Setup) Where(keyword string) string {
	if p := s.Positions[keyword]; p != "" {
		return keyword + "= of " + p
	}
	return fmt.Sprintf("the default of %s= in config setup", keyword)
}

// WhereEnd names the line that sets the first of these keywords for one end, such as leftid=, or for the connection.
func (o *Oriented) WhereEnd(local bool, keywords ...string) string {
	end, left := o.Remote, o.LeftIsLocal == local
	if local {
		end = o.Local
	}
	for _, k := range keywords {
		if p := end.Positions[side(left)+k]; p != "" {
			return side(left) + k + "= of " + p
		}
		if p := o.Positions[k]; p != "" {
			return k + "= of " + p
		}
	}
	return fmt.Sprintf("no %s%s= in the connection at %s", side(left), keywords[0], o.Position)
}

// WhereHost names the line that sets left= or right=, whichever end is meant.
func (o *Oriented) WhereHost(local bool) string { return o.end(o.LeftIsLocal == local) }
