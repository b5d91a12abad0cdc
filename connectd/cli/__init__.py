"""connectctl: the operator's and the curious person's hand on connectd."""
