// How the dashboard is built: into `dist`, where the server embeds it.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: { '/api': process.env['FOREWRIGHT'] ?? 'http://127.0.0.1:8600' },
  },
  test: {
    include: ['src/**/*.test.ts'],
  },
});
