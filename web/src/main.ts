// Where the dashboard begins.
import { mount } from 'svelte';
import App from './App.svelte';
import { session } from './api/session.svelte';
import './app.css';

session.begin();
// A link with a token may be opened in a tab that shows the dashboard already.
addEventListener('hashchange', () => session.begin());
const target = document.getElementById('app');
if (target !== null) mount(App, { target });
